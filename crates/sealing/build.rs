//! Rebuilds the crate when a migration is added.
fn main() {
    #[expect(clippy::disallowed_macros, reason = "this is how a build script speaks to cargo")]
    {
        println!("cargo:rerun-if-changed=migrations");
    }
}
