//! Builds that are wrong on purpose, so that it is seen that the judge of a soak finds each guarantee broken. It
//! guarantees that nothing of this is compiled in without the feature `broken`, and that no release has it;
//! which mechanism is missing is said by the code that then goes without it.
//!
//! Such a build doesn't start unless `ASSENT_BROKEN` names the one guarantee that it breaks: left lying
//! about, it is taken for no other.

#[cfg(all(feature = "broken", not(debug_assertions)))]
compile_error!("a build that breaks its guarantees on purpose can't be a release");

/// What can be broken, each by one mechanism that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Whoever takes a right away doesn't wait out the lease.
    G1,
    /// The ledger doesn't know a repeated command.
    G2,
    /// A verdict about the past looks at what was recorded since.
    G3,
    /// A saga ends although answers to its last step are missing.
    G4,
    /// What is sealed is stored as it is.
    G5,
    /// The fingerprints of the erased bar nobody.
    G6,
    /// The projector drops events.
    G7,
}

/// Whether the mechanism of this guarantee is missing; never in a build without the feature.
#[inline]
#[must_use]
pub fn is(guarantee: Guarantee) -> bool {
    #[cfg(feature = "broken")]
    return active::chosen() == Some(guarantee);
    #[cfg(not(feature = "broken"))]
    {
        let _ = guarantee;
        false
    }
}

/// Asks, before anything else happens, which guarantee this build is to break.
///
/// # Errors
/// A build with the feature that isn't told.
pub fn announce() -> Result<(), &'static str> {
    #[cfg(feature = "broken")]
    if active::chosen().is_none() {
        return Err("this build is wrong on purpose: ASSENT_BROKEN must say how, G1 to G7");
    }
    Ok(())
}

#[cfg(feature = "broken")]
mod active {
    use std::sync::LazyLock;

    use super::Guarantee;

    static CHOSEN: LazyLock<Option<Guarantee>> =
        LazyLock::new(|| std::env::var("ASSENT_BROKEN").ok().and_then(|name| find(&name)));

    pub(super) fn chosen() -> Option<Guarantee> {
        *CHOSEN
    }

    fn find(name: &str) -> Option<Guarantee> {
        use Guarantee::{G1, G2, G3, G4, G5, G6, G7};
        [G1, G2, G3, G4, G5, G6, G7].into_iter().find(|it| format!("{it:?}") == name)
    }
}
