#![doc = include_str!("../README.md")]

mod follower;
mod http;
mod participant;
mod picture;

pub use assent_contracts as contracts;

pub use follower::{FollowError, Follower};
pub use http::{Client, Error, Refusal};
pub use participant::{Holder, Participant, Progress};
pub use picture::{Change, Line, Picture, What};

#[cfg(test)]
mod tests {
    /// What the page shows is what tests run.
    #[test]
    fn the_readme_shows_the_example() {
        let example = include_str!("../examples/welcome.rs");
        let shown = format!("```rust,ignore\n{example}```\n");
        assert!(include_str!("../README.md").ends_with(&shown), "copy the example into README.md");
    }
}
