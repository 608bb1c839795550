//! What a step touched, and the evidence made of it. It guarantees that the same things give the
//! same evidence, in whatever order they were found.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::erasure::{Evidence, Kept, Positions};
use jiff::Timestamp;

/// What a step touched or, for a sweep, found: the names of pieces, by kind. Names are ids and
/// keyed hashes, never personal data.
#[derive(Debug, Default)]
pub struct Touched {
    pieces: BTreeMap<&'static str, BTreeSet<String>>,
    kept: BTreeSet<Kept>,
}

impl Touched {
    /// Adds pieces. A kind without any is evidence too: its count is 0.
    pub fn add(&mut self, kind: &'static str, names: impl IntoIterator<Item: ToString>) {
        let names = names.into_iter().map(|name| name.to_string());
        self.pieces.entry(kind).or_default().extend(names);
    }

    /// Adds `count` pieces that have no names of their own; once per kind.
    pub fn count(&mut self, kind: &'static str, count: u64) {
        self.add(kind, 0..count);
    }

    /// Says what stays here, why (both as codes) and until when; the certificate tells it.
    pub fn keep(&mut self, what: &str, ground: &str, until: Option<Timestamp>) {
        let (what, ground) = (what.to_owned(), ground.to_owned());
        self.kept.insert(Kept { what, ground, until });
    }

    /// Counts, and a digest over the sorted list of `kind name` lines.
    pub(crate) fn evidence(&self, positions: Positions) -> Evidence {
        let evidence = Evidence::of(&self.pieces, positions);
        Evidence { kept: self.kept.iter().cloned().collect(), ..evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_over_the_sorted_list_of_what_was_touched() {
        let mut one = Touched::default();
        one.add("permits", ["b", "a"]);
        one.add("links", [1]);
        let mut two = Touched::default();
        two.add("links", ["1"]);
        two.add("permits", ["a"]);
        two.add("permits", ["b"]);
        let evidence = |touched: &Touched| touched.evidence(Positions::new());
        assert_eq!(evidence(&one), evidence(&two));
        assert_eq!(evidence(&one).counts["permits"], 2);
        // `printf 'links 1\npermits a\npermits b\n' | sha256sum`
        let digest = "56dc81d8b95610e6e826ef0e0609ab4bc5d3f325db0e7752276a42de8242f8bc";
        assert_eq!(evidence(&one).digest, digest);

        one.count("parked", 0);
        assert_eq!(evidence(&one).digest, digest, "nothing was touched, and that is said");
        assert_eq!(evidence(&one).counts["parked"], 0);
    }
}
