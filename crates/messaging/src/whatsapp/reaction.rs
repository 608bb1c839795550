//! What each of the provider's error codes asks for, as data. Codes come synchronously, by webhook,
//! or both; the reaction is the same. Acting on it is left to the dispatcher and to
//! `consequences`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing within this reach may be sent until someone lifts it. The message itself was not taken
    /// and waits.
    Halt(Reach),
    /// This message will never be accepted.
    Permanent,
    /// The outcome is unknown: never tried again, reconciled by webhook.
    Ambiguous,
    /// Try again after a growing pause.
    BackOff,
    /// Too many calls of this account: its number rests for an hour.
    BackOffHour,
    /// The number sends too fast: slow its bucket and try again.
    SlowNumber,
    /// This pair of numbers talks too often: wait 4^n seconds for this person only.
    DelayPair,
    /// The person stopped marketing at WhatsApp: record her stop, never try again.
    OptOut,
    /// The person has had enough marketing from everybody: wait a day, try once more at most.
    CapPerson,
    /// The person is part of an experiment: no marketing before she writes.
    AwaitInbound,
    /// Somebody else may have the number: nothing before it is verified again.
    BreakTrust,
    /// Something is wrong with the template, for everybody.
    Template(TemplateFault),
}

/// How far a halt reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Everything.
    Everything,
    /// Marketing templates.
    Campaigns,
    /// What is billed: templates.
    Billable,
}

impl Reach {
    /// Every reach.
    pub const ALL: [Self; 3] = [Self::Everything, Self::Campaigns, Self::Billable];

    /// As the database and the API name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Campaigns => "campaigns",
            Self::Billable => "billable",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reach| reach.as_str() == text)
    }

    /// Why a message within reach waits.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Everything => "sender_halted",
            Self::Campaigns => "campaigns_halted",
            Self::Billable => "billing_halted",
        }
    }
}

/// What is wrong with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateFault {
    /// The provider doesn't know it in this language.
    Missing,
    /// It is paused for its quality.
    Paused,
    /// It is disabled for good.
    Disabled,
}

/// A row of the provider's table.
#[derive(Debug)]
pub struct Row {
    /// The codes that it is about.
    pub codes: &'static [RangeInclusive<i64>],
    /// What they ask for.
    pub reaction: Reaction,
    /// Why a message failed or waits, a stable code.
    pub reason: &'static str,
}

const fn row(
    codes: &'static [RangeInclusive<i64>],
    reaction: Reaction,
    reason: &'static str,
) -> Row {
    Row { codes, reaction, reason }
}

/// The table. Each known code stands in one row.
pub static TABLE: &[Row] = &[
    // Token, permission, locked account, policy.
    row(
        &[
            0..=0,
            190..=190,
            3..=3,
            10..=10,
            200..=299,
            131_005..=131_005,
            131_031..=131_031,
            368..=368,
        ],
        Reaction::Halt(Reach::Everything),
        "sender_halted",
    ),
    // Spam rate, and the account's quality.
    row(
        &[131_048..=131_048, 131_064..=131_064],
        Reaction::Halt(Reach::Campaigns),
        "campaigns_halted",
    ),
    row(&[131_042..=131_042], Reaction::Halt(Reach::Billable), "billing_halted"),
    row(
        &[
            33..=33,
            100..=100,
            131_008..=131_009,
            131_021..=131_021,
            131_051..=131_051,
            132_000..=132_000,
            132_005..=132_005,
            132_007..=132_007,
            132_012..=132_012,
            135_000..=135_000,
        ],
        Reaction::Permanent,
        "provider_refused",
    ),
    row(&[1..=1, 131_000..=131_000], Reaction::Ambiguous, "provider_outcome_unknown"),
    row(
        &[2..=2, 131_016..=131_016, 131_057..=131_057, 133_004..=133_004],
        Reaction::BackOff,
        "provider_asks_to_wait",
    ),
    row(&[4..=4, 80_007..=80_007], Reaction::BackOffHour, "provider_asks_to_wait"),
    row(&[130_429..=130_429], Reaction::SlowNumber, "provider_asks_to_wait"),
    row(&[131_056..=131_056], Reaction::DelayPair, "pair_delayed"),
    // It says nothing about whether she is on WhatsApp.
    row(&[131_026..=131_026], Reaction::Permanent, "undeliverable"),
    row(&[131_047..=131_047], Reaction::Permanent, "window_closed"),
    row(&[131_049..=131_049], Reaction::CapPerson, "person_capped"),
    row(&[131_050..=131_050], Reaction::OptOut, "person_stopped_marketing"),
    row(&[130_472..=130_472], Reaction::AwaitInbound, "experiment"),
    row(&[132_001..=132_001], Reaction::Template(TemplateFault::Missing), "template_missing"),
    row(&[132_015..=132_015], Reaction::Template(TemplateFault::Paused), "template_paused"),
    row(&[132_016..=132_016], Reaction::Template(TemplateFault::Disabled), "template_disabled"),
    row(&[130_497..=130_497], Reaction::Permanent, "country_barred"),
    row(&[131_063..=131_063], Reaction::Permanent, "marketing_api_needed"),
    row(&[137_000..=137_000], Reaction::BreakTrust, "identity_changed"),
    // The blocking API, per person.
    row(&[139_100..=139_103], Reaction::Permanent, "provider_refused"),
];

/// The error that means "this person stopped marketing".
pub const PERSON_STOPPED_MARKETING: i64 = 131_050;

/// What is known about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What to do.
    pub reaction: Reaction,
    /// Why, a stable code.
    pub reason: &'static str,
    /// Whether the table has the code; otherwise its class decided.
    pub known: bool,
}

/// What to do about a refusal. A code that the table doesn't have is treated by its class, the HTTP
/// status: a 5xx may have been sent, 429 asks for a pause, 401 and 403 stop the sender, any other refusal
/// is final. A webhook has no status; what it reports has failed.
#[must_use]
pub fn to(http_status: Option<u16>, code: Option<i64>) -> Meaning {
    let known = code.and_then(|code| {
        TABLE.iter().find(|row| row.codes.iter().any(|codes| codes.contains(&code)))
    });
    if let Some(Row { reaction, reason, .. }) = known {
        return Meaning { reaction: *reaction, reason, known: true };
    }
    let (reaction, reason) = match http_status {
        Some(429) => (Reaction::BackOff, "provider_asks_to_wait"),
        Some(500..) => (Reaction::Ambiguous, "provider_outcome_unknown"),
        Some(401 | 403) => (Reaction::Halt(Reach::Everything), "sender_halted"),
        _ => (Reaction::Permanent, "provider_refused"),
    };
    Meaning { reaction, reason, known: false }
}

/// How long the message itself waits before it is tried again, after the `attempts`th try (from 1); none
/// when it must not be tried again.
#[must_use]
pub fn pause(reaction: Reaction, attempts: u32) -> Option<Duration> {
    let power = |base: u64, most: Duration| {
        Duration::from_secs(base.saturating_pow(attempts.min(12))).min(most)
    };
    match reaction {
        Reaction::Halt(_) | Reaction::Template(TemplateFault::Paused) => Some(LOOK_AGAIN),
        Reaction::BackOff => Some(power(2, Duration::from_secs(600))),
        Reaction::BackOffHour => Some(HOUR),
        Reaction::SlowNumber => Some(Duration::from_secs(1)),
        // The delay is the pair's, and grows with it: this is its least.
        Reaction::DelayPair => Some(Duration::from_secs(4)),
        Reaction::CapPerson => Some(DAY),
        Reaction::Permanent
        | Reaction::Ambiguous
        | Reaction::OptOut
        | Reaction::AwaitInbound
        | Reaction::BreakTrust
        | Reaction::Template(TemplateFault::Missing | TemplateFault::Disabled) => None,
    }
}

/// How often something that only a person or the provider can end is looked at again. Lifting a halt wakes
/// what waits for it.
pub const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How long a number rests after too many calls.
pub const HOUR: Duration = Duration::from_secs(3600);
/// How long a person is left alone whom everybody has sent too much marketing.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    /// One test per row of the provider's documentation: its codes, what they ask for, and the reason
    /// that people see.
    macro_rules! rows {
        ($($name:ident: $codes:expr => $reaction:expr, $reason:literal;)*) => {$(
            #[test]
            fn $name() {
                for code in $codes {
                    let judged = Meaning { reaction: $reaction, reason: $reason, known: true };
                    // By webhook, and whatever the HTTP status says.
                    for status in [None, Some(400), Some(403), Some(429), Some(500)] {
                        assert_eq!(to(status, Some(code)), judged, "{code} {status:?}");
                    }
                }
            }
        )*};
    }

    rows! {
        a_bad_token_halts_the_sender: [0, 190] => Reaction::Halt(Reach::Everything), "sender_halted";
        a_missing_permission_halts_the_sender: [3, 10, 200, 250, 299, 131_005]
            => Reaction::Halt(Reach::Everything), "sender_halted";
        a_locked_account_halts_the_sender: [131_031, 368]
            => Reaction::Halt(Reach::Everything), "sender_halted";
        malformed_messages_are_never_tried_again:
            [33, 100, 131_008, 131_009, 131_021, 131_051, 135_000, 132_000, 132_005, 132_007, 132_012]
            => Reaction::Permanent, "provider_refused";
        an_unknown_outcome_is_ambiguous: [1, 131_000] => Reaction::Ambiguous, "provider_outcome_unknown";
        a_provider_in_trouble_is_given_time: [2, 131_016, 133_004, 131_057]
            => Reaction::BackOff, "provider_asks_to_wait";
        too_many_calls_rest_an_hour: [4, 80_007] => Reaction::BackOffHour, "provider_asks_to_wait";
        too_fast_a_number_is_slowed: [130_429] => Reaction::SlowNumber, "provider_asks_to_wait";
        too_busy_a_pair_is_delayed: [131_056] => Reaction::DelayPair, "pair_delayed";
        spam_stops_campaigns: [131_048, 131_064]
            => Reaction::Halt(Reach::Campaigns), "campaigns_halted";
        an_undeliverable_message_is_final: [131_026] => Reaction::Permanent, "undeliverable";
        a_closed_window_is_final: [131_047] => Reaction::Permanent, "window_closed";
        a_capped_person_is_left_alone: [131_049] => Reaction::CapPerson, "person_capped";
        a_person_who_stopped_is_opted_out: [131_050] => Reaction::OptOut, "person_stopped_marketing";
        an_experiment_waits_for_her_message: [130_472] => Reaction::AwaitInbound, "experiment";
        a_missing_template_is_blocked: [132_001]
            => Reaction::Template(TemplateFault::Missing), "template_missing";
        a_paused_template_is_held: [132_015]
            => Reaction::Template(TemplateFault::Paused), "template_paused";
        a_disabled_template_is_retired: [132_016]
            => Reaction::Template(TemplateFault::Disabled), "template_disabled";
        an_unpaid_bill_halts_what_is_billed: [131_042]
            => Reaction::Halt(Reach::Billable), "billing_halted";
        a_barred_country_is_final: [130_497] => Reaction::Permanent, "country_barred";
        marketing_that_needs_its_own_api_is_final: [131_063]
            => Reaction::Permanent, "marketing_api_needed";
        a_changed_identity_breaks_trust: [137_000] => Reaction::BreakTrust, "identity_changed";
        blocking_fails_per_person: [139_100, 139_101, 139_102, 139_103]
            => Reaction::Permanent, "provider_refused";
    }

    #[test]
    fn no_code_stands_in_two_rows() {
        let all: Vec<_> = TABLE.iter().flat_map(|row| row.codes).collect();
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert!(
                    one.end() < other.start() || other.end() < one.start(),
                    "{one:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_code_is_treated_by_its_class() {
        for code in [None, Some(131_999), Some(-1), Some(i64::MAX)] {
            let reaction = |status| to(status, code).reaction;
            assert_eq!(reaction(Some(400)), Reaction::Permanent);
            assert_eq!(reaction(Some(429)), Reaction::BackOff);
            assert_eq!(reaction(Some(401)), Reaction::Halt(Reach::Everything));
            assert_eq!(reaction(Some(502)), Reaction::Ambiguous);
            assert_eq!(reaction(None), Reaction::Permanent);
            assert!(!to(Some(400), code).known);
        }
    }

    #[test]
    fn what_must_not_be_tried_again_has_no_pause() {
        for row in TABLE {
            let last_word = !matches!(
                row.reaction,
                Reaction::Halt(_)
                    | Reaction::BackOff
                    | Reaction::BackOffHour
                    | Reaction::SlowNumber
                    | Reaction::DelayPair
                    | Reaction::CapPerson
                    | Reaction::Template(TemplateFault::Paused)
            );
            assert_eq!(pause(row.reaction, 1).is_none(), last_word, "{row:?}");
        }
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(Reaction::BackOff, 1), Some(Duration::from_secs(2)));
        assert_eq!(pause(Reaction::BackOff, 40), Some(Duration::from_secs(600)));
        assert_eq!(pause(Reaction::BackOffHour, 1), Some(Duration::from_secs(3600)));
        assert!(pause(Reaction::CapPerson, 9) >= Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn the_guide_has_every_row() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/whatsapp.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        for Row { codes, reason, .. } in TABLE {
            for code in codes.iter().map(|codes| codes.start().to_string()) {
                let stands = |line: &str| {
                    let mut cells = line.split('|').skip(1).map(str::trim);
                    let codes = cells.next().unwrap_or_default();
                    codes.split([',', ';', '–', ' ']).any(|it| it == code)
                        && cells.next() == Some(&format!("`{reason}`"))
                };
                assert!(guide.lines().any(stands), "{code} {reason}");
            }
        }
    }
}
