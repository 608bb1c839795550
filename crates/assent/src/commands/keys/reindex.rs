//! `assent keys reindex`: everybody is hashed under the index keys in use, and under no other. It guarantees that "nobody is left" was
//! looked for after the last one was hashed; it may be interrupted and repeated at any moment.

use assent_contracts::api::vault::{RenewRequest, RenewResponse};
use serde::Serialize;

use crate::api::Api;
use crate::commands::upload::patiently;
use crate::outcome::{Failure, Output, Status};

/// How often all people are gone through: whoever a replica without the key registers meanwhile is found by the next
/// one.
const ROUNDS: usize = 3;
/// After how many pieces it is said how far it is.
const PIECES: u64 = 100;

#[derive(Debug, Default, Serialize)]
struct Reindexed {
    /// People who were looked at in the last round.
    looked_at: u64,
    /// People whose hashes were not those of the keys in use, in all rounds.
    reindexed: u64,
    /// Whether the last round found nobody any more.
    complete: bool,
}

/// Runs it.
///
/// # Errors
/// When the vault doesn't answer, or refuses; what was done stands.
pub async fn run(api: &Api, output: Output) -> Result<Status, Failure> {
    let mut done = Reindexed::default();
    for _ in 0..ROUNDS {
        let before = done.reindexed;
        done.looked_at = 0;
        let mut request = RenewRequest::default();
        for piece in 1_u64.. {
            let answer: RenewResponse =
                patiently(|| api.post("/vault/v1/index/renew", &request, None)).await?;
            done.looked_at += answer.looked_at;
            done.reindexed += answer.renewed;
            if answer.last.is_none() {
                break;
            }
            request.after = answer.last;
            if piece % PIECES == 0 {
                let Reindexed { looked_at, reindexed, .. } = done;
                output.remark(&format!("{looked_at} people, {reindexed} hashed again"));
            }
        }
        done.complete = done.reindexed == before;
        if done.complete {
            break;
        }
    }
    output.print(&done, |done| {
        let Reindexed { looked_at, reindexed, complete } = done;
        let left = if *complete {
            "nobody is left"
        } else {
            "a replica of the vault has other keys: replace it, and repeat"
        };
        format!("{looked_at} people, {reindexed} hashed again; {left}")
    });
    Ok(if done.complete { Status::Done } else { Status::Refused })
}
