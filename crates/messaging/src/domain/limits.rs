//! How much may go out: to one person for one purpose, and from one number in a day. It does no input
//! or output; counting is left to the transaction that claims messages.

use std::time::Duration;

/// The window of a number's ceilings: 24 hours, rolling.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// The provider lets one message in six seconds go to one person, and lends up to 45 of them.
pub const PAIR: Pair = Pair { burst: 45, window: Duration::from_secs(45 * 6) };

/// How many messages may go to one person within any window of so long. Who keeps that also keeps the provider's
/// rule: a burst, paid back at one message in the `burst`th part of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// So many.
    pub burst: usize,
    /// Within this time.
    pub window: Duration,
}

impl Pair {
    /// For how long one more message must wait, of those that went out so long ago; none: not at all.
    #[must_use]
    pub fn room(self, ago: &[Duration]) -> Option<Duration> {
        let mut within: Vec<Duration> =
            ago.iter().copied().filter(|ago| *ago < self.window).collect();
        // The one that has to leave the window first.
        within.sort_unstable();
        let last = within.get(self.burst.checked_sub(1)?)?;
        Some(self.window.saturating_sub(*last))
    }
}

/// At most so many messages of a purpose to one person within a rolling window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// The purpose.
    pub purpose: String,
    /// So many.
    pub most: usize,
    /// The window.
    pub within: Duration,
}

/// The caps of a deployment, over all campaigns and single messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caps(Vec<Cap>);

impl Caps {
    /// Reads `marketing 1/24h 4/30d; news 2/7d`.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut caps = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let mut words = part.split_whitespace();
            let purpose = words.next().unwrap_or_default();
            let before = caps.len();
            for word in words {
                let (most, within) = word
                    .split_once('/')
                    .and_then(|(most, within)| Some((most.parse().ok()?, window(within)?)))
                    .ok_or_else(|| format!("{word:?} is no cap such as 1/24h or 4/30d"))?;
                caps.push(Cap { purpose: purpose.to_owned(), most, within });
            }
            if caps.len() == before {
                return Err(format!("{purpose:?} has no cap such as 1/24h"));
            }
        }
        Ok(Self(caps))
    }

    /// The purposes that have one.
    #[must_use]
    pub fn purposes(&self) -> Vec<&str> {
        self.0.iter().map(|cap| cap.purpose.as_str()).collect()
    }

    /// How far back messages have to be counted.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|cap| cap.within).max().unwrap_or_default()
    }

    /// Whether one more message of a purpose would be too much for somebody to whom messages of it went
    /// out so long ago.
    #[must_use]
    pub fn is_full(&self, purpose: &str, ago: &[Duration]) -> bool {
        self.0
            .iter()
            .filter(|cap| cap.purpose == purpose)
            .any(|cap| ago.iter().filter(|ago| **ago < cap.within).count() >= cap.most)
    }
}

/// `24h`, `30d`.
fn window(text: &str) -> Option<Duration> {
    let hours = |count: &str| count.parse::<u64>().ok().filter(|count| (1..=8_784).contains(count));
    let hours = match text.strip_suffix('d') {
        Some(days) => hours(days)?.checked_mul(24)?,
        None => hours(text.strip_suffix('h')?)?,
    };
    Some(Duration::from_secs(hours * 3600))
}

/// What a number may send in a rolling day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Messages of campaigns and of marketing; none: no ceiling of ours.
    pub daily: Option<u64>,
    /// The same on the first days of a number, one after the other.
    pub ramp_up: Vec<u64>,
    /// People to whom the business speaks first, as the provider allows the portfolio; none: unlimited.
    pub people: Option<u64>,
}

impl Ceilings {
    /// Messages of campaigns and of marketing on the `day`th day of the number, counted from 0.
    #[must_use]
    pub fn on(&self, day: u64) -> Option<u64> {
        let step = usize::try_from(day).ok().and_then(|day| self.ramp_up.get(day)).copied();
        step.into_iter().chain(self.daily).min()
    }

    /// Reads `50,100,250`.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn parse_ramp_up(text: &str) -> Result<Vec<u64>, String> {
        let steps = text.split(',').map(str::trim).filter(|step| !step.is_empty());
        steps.map(|it| it.parse().map_err(|_| format!("{it:?} is no number of messages"))).collect()
    }
}

/// What takes longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedBy {
    /// How fast the number sends.
    Rate,
    /// What it may send in a day.
    DailyCeiling,
    /// To how many people the business may speak first in a day.
    RecipientTier,
}

impl LimitedBy {
    /// As the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::DailyCeiling => "daily_ceiling",
            Self::RecipientTier => "recipient_tier",
        }
    }
}

/// Days after which nobody counts further: it never ends.
const DAYS_MAX: u64 = 3_650;

/// How long `messages` to as many people take at least, when nothing else goes out: `used` messages went
/// out in the last day, and it is the `day`th of the number. Quiet hours come on top.
#[must_use]
pub fn duration(
    messages: u64,
    per_second: u32,
    ceilings: &Ceilings,
    day: u64,
    used: u64,
) -> (Duration, LimitedBy) {
    let at_rate =
        |messages: u64| Duration::from_secs(messages.div_ceil(u64::from(per_second.max(1))));
    let mut left = messages;
    let mut limited_by = LimitedBy::Rate;
    for later in 0..DAYS_MAX {
        let ceiling = ceilings.on(day + later);
        let rooms =
            [(ceiling, LimitedBy::DailyCeiling), (ceilings.people, LimitedBy::RecipientTier)];
        let narrowest =
            rooms.into_iter().filter_map(|(room, by)| Some((room?, by))).min_by_key(|it| it.0);
        let days = DAY * u32::try_from(later).unwrap_or(u32::MAX);
        let Some((room, by)) = narrowest else { return (days + at_rate(left), limited_by) };
        let room = if later == 0 { room.saturating_sub(used) } else { room };
        if left <= room {
            return (days + at_rate(left), limited_by);
        }
        left -= room;
        limited_by = by;
    }
    (DAY * u32::try_from(DAYS_MAX).unwrap_or(u32::MAX), limited_by)
}

/// Prices by category, in millionths of a currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    by_category: Vec<(String, u64)>,
    /// The currency: a label.
    pub currency: String,
}

const MILLIONTHS: u64 = 1_000_000;

impl Prices {
    /// Reads `MARKETING 0.0859, UTILITY 0.01`.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn parse(text: &str, currency: String) -> Result<Self, String> {
        let mut by_category = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let price = part.split_once(' ').and_then(|(category, price)| {
                Some((category.to_owned(), millionths(price.trim())?))
            });
            by_category.push(
                price.ok_or_else(|| format!("{part:?} is no price such as MARKETING 0.0859"))?,
            );
        }
        Ok(Self { by_category, currency })
    }

    /// The price of one message of a category and of `messages`, as decimals.
    #[must_use]
    pub fn of(&self, category: &str, messages: u64) -> Option<(String, String)> {
        let (_, price) = self.by_category.iter().find(|(known, _)| known == category)?;
        Some((decimal(*price), decimal(price.checked_mul(messages)?)))
    }
}

fn millionths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(MILLIONTHS)?.checked_add(fraction)
}

fn decimal(millionths: u64) -> String {
    let text = format!("{}.{:06}", millionths / MILLIONTHS, millionths % MILLIONTHS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn caps_are_read_and_what_is_none_is_refused() {
        let caps = Caps::parse("marketing 1/24h 4/30d; news 2/7d;").unwrap();
        assert_eq!(caps.purposes(), ["marketing", "marketing", "news"]);
        assert_eq!(caps.longest(), DAY * 30);
        assert_eq!(Caps::parse("").unwrap(), Caps::default());
        for wrong in [
            "marketing",
            "marketing 1",
            "marketing x/24h",
            "marketing 1/24",
            "news 1/0h",
            "news 1/-1d",
        ] {
            assert!(Caps::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_window_counts_on_its_own_and_rolls() {
        let caps = Caps::parse("marketing 1/24h 3/7d").unwrap();
        assert!(!caps.is_full("marketing", &[]));
        assert!(caps.is_full("marketing", &[HOUR]));
        assert!(caps.is_full("marketing", &[HOUR * 24 - Duration::from_millis(1)]));
        assert!(!caps.is_full("marketing", &[HOUR * 24]), "its last moment is over");
        assert!(caps.is_full("marketing", &[HOUR * 25, HOUR * 50, HOUR * 75]));
        assert!(!caps.is_full("marketing", &[HOUR * 25, HOUR * 50, HOUR * 24 * 7]));
        assert!(!caps.is_full("service", &[HOUR; 9]), "no cap, no limit");
    }

    #[test]
    fn a_new_number_rises_by_steps_to_its_ceiling() {
        let ceilings = Ceilings {
            daily: Some(150),
            ramp_up: Ceilings::parse_ramp_up("50, 100,250").unwrap(),
            people: None,
        };
        let days: Vec<_> = (0..4).map(|day| ceilings.on(day)).collect();
        assert_eq!(days, [Some(50), Some(100), Some(150), Some(150)]);
        let unlimited = Ceilings { daily: None, ..ceilings };
        assert_eq!((unlimited.on(2), unlimited.on(3)), (Some(250), None));
        assert!(Ceilings::parse_ramp_up("50,x").is_err());
    }

    #[test]
    fn the_duration_is_the_rate_or_the_days_that_it_takes() {
        let none = Ceilings::default();
        assert_eq!(duration(161, 80, &none, 0, 0), (Duration::from_secs(3), LimitedBy::Rate));
        let daily = Ceilings { daily: Some(1_000), ..Ceilings::default() };
        assert_eq!(duration(1_000, 80, &daily, 0, 0).1, LimitedBy::Rate);
        let two_days = (DAY * 2 + Duration::from_secs(7), LimitedBy::DailyCeiling);
        assert_eq!(duration(2_500, 80, &daily, 0, 0), two_days);
        let (longer, _) = duration(2_500, 80, &daily, 0, 600);
        assert_eq!(longer, DAY * 3 + Duration::from_secs(2), "what went out today counts");
        let ramp = Ceilings { ramp_up: vec![50, 100], ..Ceilings::default() };
        let rest = (DAY * 2 + Duration::from_secs(1), LimitedBy::DailyCeiling);
        assert_eq!(duration(200, 80, &ramp, 0, 0), rest);
        assert_eq!(duration(200, 80, &ramp, 2, 0).1, LimitedBy::Rate, "the ramp is over");
        let tier = Ceilings { people: Some(250), ..daily };
        assert_eq!(duration(500, 80, &tier, 0, 0).1, LimitedBy::RecipientTier);
        let never = Ceilings { daily: Some(0), ..Ceilings::default() };
        assert_eq!(duration(5, 80, &never, 0, 0), (DAY * 3_650, LimitedBy::DailyCeiling));
    }

    #[test]
    fn prices_are_decimals() {
        let prices = Prices::parse("MARKETING 0.0859, UTILITY 2", "EUR".to_owned()).unwrap();
        let of = |category, messages| prices.of(category, messages);
        assert_eq!(of("MARKETING", 1_000), Some(("0.0859".to_owned(), "85.9".to_owned())));
        assert_eq!(of("UTILITY", 3), Some(("2".to_owned(), "6".to_owned())));
        assert_eq!(of("AUTHENTICATION", 3), None);
        for wrong in
            ["MARKETING", "MARKETING x", "MARKETING 0.0000001", "MARKETING -1", "MARKETING .5"]
        {
            assert!(Prices::parse(wrong, String::new()).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        /// The provider's own rule, told as a theoretical arrival time: six seconds for each, 45 lent.
        #[test]
        fn what_the_window_of_a_pair_lets_through_the_provider_takes(
            gaps in proptest::collection::vec(0_u64..20_000, 1..400),
        ) {
            let interval = PAIR.window.as_millis() as u64 / PAIR.burst as u64;
            let (mut now, mut debt_until, mut sent) = (0_u64, 0_u64, Vec::new());
            for gap in gaps {
                now += gap;
                let ago: Vec<Duration> =
                    sent.iter().map(|at| Duration::from_millis(now - at)).collect();
                if PAIR.room(&ago).is_some() {
                    continue;
                }
                debt_until = debt_until.max(now) + interval;
                proptest::prop_assert!(debt_until - now <= PAIR.window.as_millis() as u64);
                sent.push(now);
            }
        }
    }

    #[test]
    fn the_last_of_a_burst_waits_until_the_first_has_left() {
        let ago: Vec<Duration> = (1..=45).map(Duration::from_secs).collect();
        assert_eq!(PAIR.room(&ago[..44]), None);
        assert_eq!(PAIR.room(&ago), Some(Duration::from_secs(225)));
        assert_eq!(PAIR.room(&vec![PAIR.window; 45]), None);
    }
}
