//! `pin-images`: the digests of the public images that `docker-compose.yml` and the Dockerfile name. A digest is
//! written only if a registry told it for the very tag, and either all are written or none.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::error::{At, Error, Result};
use crate::workspace::root;

/// Where images are named.
const FILES: [&str; 2] = ["docker-compose.yml", "crates/assent/Dockerfile"];

/// Reads and writes them.
pub fn pin_images() -> Result<()> {
    let mut texts = Vec::new();
    for file in FILES {
        let path = root().join(file);
        texts.push((fs::read_to_string(&path).at(&path)?, path));
    }
    let mut digests = BTreeMap::new();
    for image in texts.iter().flat_map(|(text, _)| text.lines().filter_map(image_in)) {
        if !digests.contains_key(image) {
            let digest = digest_of(image)?;
            println!("{image}@{digest}");
            digests.insert(image.to_owned(), digest);
        }
    }
    for (text, path) in &texts {
        fs::write(path, pinned(text, &digests)).at(path)?;
    }
    Ok(())
}

/// The public image of a line, with its tag and without a digest.
fn image_in(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let named = line.strip_prefix("image: ").or_else(|| line.strip_prefix("FROM "))?;
    let image = named.split_whitespace().next()?.split('@').next()?;
    // Without a tag it is another stage of the build; `local` is what the build makes.
    image.split_once(':').filter(|(_, tag)| *tag != "local").map(|_| image)
}

/// The text with a digest behind each image, in the place of one that was there.
fn pinned(text: &str, digests: &BTreeMap<String, String>) -> String {
    let pin = |line: &str| {
        let found = image_in(line).and_then(|image| Some((image, digests.get(image)?)));
        let Some((image, digest)) = found else { return line.to_owned() };
        let (before, rest) = line.split_once(image).unwrap_or((line, ""));
        let rest = match rest.strip_prefix('@') {
            Some(old) => &old[old.find(' ').unwrap_or(old.len())..],
            None => rest,
        };
        format!("{before}{image}@{digest}{rest}")
    };
    text.split('\n').map(pin).collect::<Vec<_>>().join("\n")
}

/// What the registry says, of the list of all platforms.
fn digest_of(image: &str) -> Result<String> {
    let mut ask = Command::new("docker");
    ask.args(["buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]);
    let failed = |why: &str| {
        Error::Said(format!(
            "no registry told the digest of {image}: {}\nNothing was written. Run it where Docker with buildx reaches the registry: \
             `docker buildx imagetools inspect {image}` must answer there",
            why.trim()
        ))
    };
    let output = ask.output().map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if is_digest(&said) { Ok(said) } else { Err(failed("its answer is no digest")) }
}

fn is_digest(text: &str) -> bool {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(lower_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_images_get_their_digest_and_nothing_else_changes() {
        let text = "FROM rust:1.95.0 AS build\nFROM base AS assent\n    image: postgres:18.1 # why\n  image: assent:local\n  \
                    image: prom/prometheus:v3.13.1@sha256:old # kept\n# image: of a comment:1\n";
        let of = |image: &str| (image.to_owned(), format!("sha256:{image}"));
        let digests = ["rust:1.95.0", "postgres:18.1", "prom/prometheus:v3.13.1"].map(of);
        assert_eq!(
            pinned(text, &digests.into()),
            "FROM rust:1.95.0@sha256:rust:1.95.0 AS build\nFROM base AS assent\n    \
             image: postgres:18.1@sha256:postgres:18.1 # why\n  image: assent:local\n  \
             image: prom/prometheus:v3.13.1@sha256:prom/prometheus:v3.13.1 # kept\n# image: of a comment:1\n"
        );
    }

    #[test]
    fn every_public_image_of_ours_is_found() {
        let images = |file: &str| {
            let text = fs::read_to_string(root().join(file)).unwrap();
            text.lines().filter_map(image_in).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(images(FILES[0]).iter().any(|image| image.starts_with("prom/prometheus:v3.")));
        assert_eq!(images(FILES[1]).len(), 2, "of the Dockerfile");
    }

    #[test]
    fn only_what_a_registry_can_have_said_is_a_digest() {
        assert!(is_digest(&format!("sha256:{}", "0a".repeat(32))));
        for text in ["", "sha256:", "sha256:0a", &format!("sha256:{}", "0A".repeat(32)), "latest"] {
            assert!(!is_digest(text), "{text}");
        }
    }
}
