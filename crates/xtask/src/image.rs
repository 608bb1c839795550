//! `image`: how heavy our layer of the image is, without an engine or a registry. The binary is built as the Dockerfile
//! does it, by the profile of what is shipped, and packed as a registry keeps a layer; beside it the image has from us
//! only certificates and empty folders.

use std::fs;
use std::process::Command;

use crate::compile::cargo;
use crate::error::{At, Error, Result};
use crate::process::{catch_interrupts, show, step};
use crate::workspace::{Home, target};

/// What our layers may weigh, packed.
const BYTES_MAX: u64 = 60_000_000;
/// What is left of that for the binary: the certificates take less than half a megabyte.
const BINARY_BYTES_MAX: u64 = BYTES_MAX - 500_000;

const BUILD: [&str; 6] = ["build", "--locked", "--profile", "dist", "--package", "assent"];
/// What it makes, under Cargo's folder.
const BINARY: &str = "dist/assent";

/// Builds, packs and weighs.
pub fn image() -> Result<()> {
    catch_interrupts();
    println!("the image's layer (profile `dist`; the first time takes many minutes)");
    let home = Home::open("image")?;
    show(&mut cargo(&BUILD), "`cargo build --profile dist`")?;
    let (binary, packed) = (target().join(BINARY), home.path("assent.gz"));
    let mut pack = Command::new("sh");
    pack.args(["-euc", "gzip -c \"$0\" > \"$1\""]).arg(&binary).arg(&packed);
    step(&mut pack, "packing", &home.log("pack"))?;
    let [binary, packed] = [binary, packed].map(|path| fs::metadata(&path).at(&path));
    let (binary, packed) = (binary?.len(), packed?.len());
    println!("  {} packed, {} unpacked", megabytes(packed), megabytes(binary));
    if packed > BINARY_BYTES_MAX {
        let most = megabytes(BINARY_BYTES_MAX);
        return Err(Error::Said(format!(
            "the binary is {} packed, over {most}",
            megabytes(packed)
        )));
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else another binary is weighed than the one that is shipped.
    #[test]
    fn the_dockerfile_builds_as_here() {
        let dockerfile = include_str!("../../assent/Dockerfile");
        assert!(dockerfile.contains(&format!("cargo {}", BUILD.join(" "))), "{BUILD:?}");
        assert!(dockerfile.contains(&format!("--target-directory=/out target/{BINARY} ")));
        assert!(dockerfile.contains("COPY --from=build /out/assent "));
    }

    /// Nor is a release another build than the image.
    #[test]
    fn the_release_workflow_builds_as_here() {
        let workflow = include_str!("../../../.github/workflows/release.yml");
        let [build, locked, profile, dist, ..] = BUILD;
        assert!(workflow.contains(&format!("cargo {build} {locked} {profile} {dist} --target ")));
        assert!(workflow.contains(&format!("target/$TARGET/{BINARY}\"")));
    }

    #[test]
    fn a_size_is_told_in_megabytes() {
        assert_eq!(megabytes(30_310_623), "30.3 MB");
        assert_eq!(megabytes(86_038_608), "86.0 MB");
    }
}
