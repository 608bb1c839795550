//! A rolling replacement: the databases first, then one process after the other, each awaited before the
//! next, with the load going on: old and new side by side on the same databases and topics.

use std::path::Path;

use crate::cluster::{Cluster, binaries, until};
use assent_runtime::{Clock as _, SystemClock};
use sha2::{Digest as _, Sha256};

use crate::soak::history::Fault;
use crate::soak::load::Load;

/// Scopes that the older build doesn't know, and therefore doesn't start with.
pub const NEW_SCOPES: &[&str] = &[
    "erasure:decide",
    "erasure:intake",
    "erasure:retention",
    "erasure:track",
    "holds:write",
    "restricted:read",
    "restrictions:write",
    "subjects:export",
];
/// In the order that the changelog asks for: who reads what is new before who writes it.
const ORDER: [&str; 12] = [
    "projector",
    "projector-2",
    "vault",
    "vault-2",
    "consent",
    "consent-2",
    "messaging",
    "messaging-2",
    "erasure",
    "erasure-2",
    "console",
    "gateway",
];
/// So many acts before, between two replacements, and after.
const SOME: usize = 60;

/// Replaces every process of the build in `from` by the build under test.
pub async fn everything(cluster: &mut Cluster, from: &Path, load: &Load) -> Vec<Fault> {
    for (what, build) in [("from", from), ("to", &binaries())] {
        println!("{what} {}", digest(&build.join("assent")));
    }
    let go_on = async |acts: usize| {
        let enough = load.acts() + acts;
        until("the load goes on", async || load.acts() >= enough).await;
    };
    go_on(SOME).await;
    cluster.admit_to_everything();
    cluster.migrate();
    // The old ones live on with the new tables.
    go_on(SOME).await;
    let mut happened = Vec::new();
    for name in ORDER {
        let from = SystemClock.boottime();
        cluster.replace(name).await;
        let until = SystemClock.boottime();
        println!("{name} replaced in {:.1} s", (until - from).as_secs_f64());
        happened.push(Fault { kind: "replace", target: name.to_owned(), from, until });
        go_on(SOME / 3).await;
    }
    // No erasure is asked for before everything is new: the changelog says so. And no START is written, which the
    // older build lets undo a later withdrawal.
    load.let_everything();
    go_on(3 * SOME).await;
    happened
}

fn digest(path: &Path) -> String {
    let binary = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(binary).iter().map(|byte| format!("{byte:02x}")).collect()
}
