//! What each of the provider's error codes asks for, as data. Codes come synchronously, by webhook,
//! or both; the reaction is the same. Acting on it is left to the dispatcher and the processor.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing of this number may be sent until someone looks (token, permission, policy, payment,
    /// spam rate). The message itself was refused and may be tried again later.
    Halt,
    /// This message will never be accepted.
    Permanent,
    /// The outcome is unknown: never tried again, reconciled by webhook.
    Ambiguous,
    /// Try again after a growing pause.
    BackOff,
    /// Try again, but on the scale of an hour.
    BackOffLong,
    /// The number sends too fast: slow its bucket and try again.
    SlowNumber,
    /// This pair of numbers talks too often: wait 4^n seconds for this person only.
    DelayPair,
    /// The person stopped marketing at WhatsApp: record her stop, never try again.
    OptOut,
}

/// The table. The first row whose range has the code decides.
const REACTIONS: &[(RangeInclusive<i64>, Reaction)] = &[
    (0..=0, Reaction::Halt),
    (190..=190, Reaction::Halt),
    (3..=3, Reaction::Halt),
    (10..=10, Reaction::Halt),
    (200..=299, Reaction::Halt),
    (131_005..=131_005, Reaction::Halt),
    (131_031..=131_031, Reaction::Halt),
    (368..=368, Reaction::Halt),
    (131_048..=131_048, Reaction::Halt),
    (131_064..=131_064, Reaction::Halt),
    (131_042..=131_042, Reaction::Halt),
    (1..=1, Reaction::Ambiguous),
    (131_000..=131_000, Reaction::Ambiguous),
    (2..=2, Reaction::BackOff),
    (131_016..=131_016, Reaction::BackOff),
    (133_004..=133_004, Reaction::BackOff),
    (131_057..=131_057, Reaction::BackOff),
    (4..=4, Reaction::BackOffLong),
    (80_007..=80_007, Reaction::BackOffLong),
    (130_429..=130_429, Reaction::SlowNumber),
    (131_056..=131_056, Reaction::DelayPair),
    (131_050..=131_050, Reaction::OptOut),
    // Never again for this message: malformed (33, 100, 1310xx, 1320xx, 135000), undeliverable (131026),
    // window closed (131047), ecosystem cap (131049), experiment (130472), barred (130497),
    // identity hash mismatch (137000) and the rest of the families below.
    (33..=33, Reaction::Permanent),
    (100..=100, Reaction::Permanent),
    (130_000..=139_999, Reaction::Permanent),
];

/// The error that means "this person stopped marketing".
pub const PERSON_STOPPED_MARKETING: i64 = 131_050;

/// What to do about a refusal. Without a known code the HTTP status decides: a 5xx may have been
/// sent, 429 asks for a pause, any other refusal is final.
#[must_use]
pub fn to(http_status: u16, code: Option<i64>) -> Reaction {
    let known = code.and_then(|code| REACTIONS.iter().find(|(codes, _)| codes.contains(&code)));
    match (known, http_status) {
        (Some((_, reaction)), _) => *reaction,
        (None, 429) => Reaction::BackOff,
        (None, 500..) => Reaction::Ambiguous,
        (None, 401 | 403) => Reaction::Halt,
        (None, _) => Reaction::Permanent,
    }
}

/// How long to wait before trying again after the `attempts`th try (from 1); none when it must not be
/// tried again.
#[must_use]
pub fn pause(reaction: Reaction, attempts: u32) -> Option<Duration> {
    let power = |base: u64, most: Duration| {
        Duration::from_secs(base.saturating_pow(attempts.min(12))).min(most)
    };
    match reaction {
        Reaction::Halt => Some(Duration::from_secs(60)),
        Reaction::BackOff => Some(power(2, Duration::from_secs(600))),
        Reaction::BackOffLong => Some(Duration::from_secs(3600)),
        Reaction::SlowNumber => Some(Duration::from_secs(1)),
        Reaction::DelayPair => Some(power(4, Duration::from_secs(3600))),
        Reaction::Permanent | Reaction::Ambiguous | Reaction::OptOut => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the provider's documentation, row by row.
    #[test]
    fn each_documented_code_has_its_reaction() {
        let rows: &[(&[i64], Reaction)] = &[
            (&[0, 190, 3, 10, 200, 250, 299, 131_005, 131_031, 368], Reaction::Halt),
            (&[131_048, 131_064, 131_042], Reaction::Halt),
            (
                &[
                    33, 100, 131_008, 131_009, 131_021, 131_051, 135_000, 132_000, 132_005,
                    132_007, 132_012,
                ],
                Reaction::Permanent,
            ),
            (&[1, 131_000], Reaction::Ambiguous),
            (&[2, 131_016, 133_004, 131_057], Reaction::BackOff),
            (&[4, 80_007], Reaction::BackOffLong),
            (&[130_429], Reaction::SlowNumber),
            (&[131_056], Reaction::DelayPair),
            (&[131_050], Reaction::OptOut),
            (&[131_026, 131_047, 131_049, 130_472, 132_001, 132_015, 132_016], Reaction::Permanent),
            (&[130_497, 131_063, 137_000, 139_100, 139_103], Reaction::Permanent),
        ];
        for (codes, reaction) in rows {
            for code in *codes {
                assert_eq!(to(400, Some(*code)), *reaction, "{code}");
            }
        }
    }

    #[test]
    fn an_opt_out_is_never_tried_again() {
        assert_eq!(pause(to(400, Some(PERSON_STOPPED_MARKETING)), 1), None);
    }

    #[test]
    fn a_server_error_may_have_been_sent() {
        assert_eq!(to(502, None), Reaction::Ambiguous);
        assert_eq!(to(500, Some(999_999)), Reaction::Ambiguous);
        assert_eq!(pause(Reaction::Ambiguous, 1), None);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(Reaction::DelayPair, 1), Some(Duration::from_secs(4)));
        assert_eq!(pause(Reaction::DelayPair, 2), Some(Duration::from_secs(16)));
        assert_eq!(pause(Reaction::BackOff, 40), Some(Duration::from_secs(600)));
        assert_eq!(pause(Reaction::DelayPair, 4_000_000_000), Some(Duration::from_secs(3600)));
    }
}
