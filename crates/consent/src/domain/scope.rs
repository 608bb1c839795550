//! What an expression of will speaks about: a purpose on a channel, either of which may be "all".
//! It guarantees that a wider withdrawal reaches every narrower consent; it knows no purposes.

/// Stands for every purpose or every channel.
pub const ANY: &str = "*";

/// A purpose on a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The purpose's name, or [`ANY`].
    pub purpose: String,
    /// The channel's name, or [`ANY`].
    pub channel: String,
}

impl Scope {
    /// A scope.
    #[must_use]
    pub fn new(purpose: &str, channel: &str) -> Self {
        Self { purpose: purpose.to_owned(), channel: channel.to_owned() }
    }

    /// Every purpose on every channel: what a bare STOP means.
    #[must_use]
    pub fn everything() -> Self {
        Self::new(ANY, ANY)
    }

    /// Whether what is said about `self` also speaks of `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        (self.purpose == ANY || self.purpose == other.purpose)
            && (self.channel == ANY || self.channel == other.channel)
    }

    /// Whether it names more than one purpose or channel.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.purpose == ANY || self.channel == ANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_scope_covers_a_narrower_one_and_not_the_reverse() {
        let marketing = Scope::new("marketing", "whatsapp");
        for wide in [
            Scope::everything(),
            Scope::new("marketing", ANY),
            Scope::new(ANY, "whatsapp"),
            marketing.clone(),
        ] {
            assert!(wide.covers(&marketing));
            assert!(wide == marketing || !marketing.covers(&wide));
        }
        assert!(!Scope::new("service", ANY).covers(&marketing));
        assert!(!Scope::new(ANY, "email").covers(&marketing));
    }
}
