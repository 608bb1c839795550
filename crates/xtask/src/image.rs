//! `image`: how heavy our layer of the image is, without an engine or a registry. The binary is built and stripped as
//! the Dockerfile does it, and packed as a registry keeps a layer; beside it the image has from us only certificates
//! and empty folders.

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

const BUILD: [&str; 5] = ["build", "--locked", "--release", "--package", "assent"];
const STRIP: &str = "--strip-debug";

/// Builds, packs and weighs.
pub fn image() -> Result<()> {
    catch_interrupts();
    println!("the image's layer (release; the first time takes some minutes)");
    let home = Home::open("image")?;
    show(&mut cargo(&BUILD), "`cargo build --release`")?;
    let (stripped, packed) = (home.path("assent"), home.path("assent.gz"));
    let mut strip = Command::new("strip");
    strip.arg(STRIP).arg("-o").arg(&stripped).arg(target().join("release/assent"));
    step(&mut strip, "stripping", &home.log("strip"))?;
    let mut pack = Command::new("sh");
    pack.args(["-euc", "gzip -c \"$0\" > \"$1\""]).arg(&stripped).arg(&packed);
    step(&mut pack, "packing", &home.log("pack"))?;
    let [stripped, packed] = [stripped, packed].map(|path| fs::metadata(&path).at(&path));
    let (stripped, packed) = (stripped?.len(), packed?.len());
    println!("  {} packed, {} unpacked", megabytes(packed), megabytes(stripped));
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
    fn the_dockerfile_builds_and_strips_as_here() {
        let dockerfile = include_str!("../../assent/Dockerfile");
        assert!(dockerfile.contains(&format!("cargo {}", BUILD.join(" "))), "{BUILD:?}");
        assert!(dockerfile.contains(&format!("&& strip {STRIP} ")), "{STRIP}");
        assert!(dockerfile.contains("COPY --from=build /out/assent "));
    }

    #[test]
    fn a_size_is_told_in_megabytes() {
        assert_eq!(megabytes(30_310_623), "30.3 MB");
        assert_eq!(megabytes(86_038_608), "86.0 MB");
    }
}
