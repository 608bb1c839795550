//! Counts, in the transaction that claims messages, what may go out: caps per person and purpose, the day's
//! ceiling of the number, the provider's tier. It guarantees that claimers of all replicas count one
//! after the other where a limit may bind, so that no race exceeds it, and that what certainly did not
//! go out counts no more; what the limits are is [`crate::domain::limits`]'s to say.

pub mod number;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use assent_contracts::SubjectId;
use sqlx::{PgConnection, Row as _};

use crate::consequences::{Obstacle, windows};
use crate::domain::limits::{DAY, PAIR};
use crate::intents::Claimed;
use crate::state::Messaging;
use number::{Day, PAUSE, TIER, Used, day, first, left, rows, used};

/// Our cap for this person and purpose: the message ends, for later it would be another one.
const CAPPED: &str = "frequency_capped";
/// As many messages as our cap allows are on their way to her: whether they count is not known yet.
const UNDECIDED: &str = "cap_undecided";
/// The number has sent enough for a day.
const CEILING: &str = "daily_ceiling";
/// As many messages went to her as the provider lets go to one person at once.
const PAIR_LIMIT: &str = "pair_limit";
/// From so many messages of the last minutes to one person on, claimers count one after the other: below, those of
/// all together stay under the limit.
const PAIR_FEW: usize = PAIR.burst / 8;
/// Tells which of the claimed messages something stands in the way of; gives for each whether the business
/// speaks first with it.
///
/// # Errors
/// When the database fails; then nothing may be claimed.
pub async fn count(
    conn: &mut PgConnection,
    messaging: &Messaging,
    claimed: &mut [Claimed],
) -> Result<Vec<bool>, sqlx::Error> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let mut counted = Counted::read(conn, messaging, claimed).await?;
    let mut is_bulk = false;
    let mut speaking = Vec::with_capacity(claimed.len());
    for intent in claimed.iter_mut() {
        let bulk = bulk(messaging, intent);
        is_bulk |= bulk;
        let taken = counted.take(messaging, intent, bulk);
        intent.limit = taken.err();
        speaking.push(taken.unwrap_or_default());
    }
    if is_bulk && !counted.day.has_begun {
        first(conn, messaging).await?;
    }
    Ok(speaking)
}

/// Whether a message is one of many: of a campaign, or marketing.
fn bulk(messaging: &Messaging, intent: &Claimed) -> bool {
    intent.campaign.is_some() || messaging.config.marketing_purposes.contains(&intent.purpose)
}

/// What went out before this claim.
struct Counted {
    /// By person and purpose.
    sent: HashMap<(SubjectId, String), Sent>,
    /// How long ago the last messages to each person went out, whatever their purpose.
    pairs: HashMap<SubjectId, Vec<Duration>>,
    day: Day,
    used: Used,
    /// People to whom the business spoke first in the last day: how many, and those of this claim.
    people: u64,
    known: HashSet<SubjectId>,
    /// When the first of them leaves the window.
    people_room: Duration,
    /// Who wrote within a day.
    windows: HashSet<SubjectId>,
}

/// How long ago messages of a purpose to one person went out.
#[derive(Default)]
struct Sent {
    /// Those that did, as far as anybody knows.
    certain: Vec<Duration>,
    /// With those that are on their way, and may still come back.
    all: Vec<Duration>,
}

impl Counted {
    /// Counts what a limit asks for, and no more: under the number's lock where one may bind, without it
    /// where none does.
    async fn read(
        conn: &mut PgConnection,
        messaging: &Messaging,
        claimed: &[Claimed],
    ) -> Result<Self, sqlx::Error> {
        // Another claimer's counts are in what the statements after this one see, or it counts ours.
        const LOCK: &str = "SELECT pg_advisory_xact_lock(1, hashtext($1))";
        let subjects: Vec<SubjectId> = claimed.iter().map(|it| it.subject).collect();
        let mut counted = Self {
            sent: HashMap::new(),
            pairs: pairs(&mut *conn, &subjects).await?,
            day: day(&mut *conn, messaging).await?,
            used: Used::default(),
            people: 0,
            known: HashSet::new(),
            people_room: DAY,
            windows: windows(&mut *conn, &subjects, messaging.clock.now()).await?,
        };
        let purposes = messaging.config.limits.caps.purposes();
        let capped: Vec<SubjectId> = claimed
            .iter()
            .filter(|it| purposes.contains(&it.purpose.as_str()))
            .map(|it| it.subject)
            .collect();
        let most = counted.day.ceilings.on(counted.day.number);
        let most = most.filter(|_| claimed.iter().any(|it| bulk(messaging, it)));
        let spoken: Vec<SubjectId> =
            claimed.iter().filter(|it| counted.speaks_first(it)).map(|it| it.subject).collect();
        let people = counted.day.ceilings.people.filter(|_| !spoken.is_empty());
        let is_pair = counted.is_pair_near(claimed);
        if capped.is_empty() && most.is_none() && people.is_none() && !is_pair {
            return Ok(counted);
        }
        let number = &messaging.config.whatsapp.phone_number_id;
        sqlx::query(LOCK).bind(number).execute(&mut *conn).await?;
        if is_pair {
            counted.pairs = pairs(&mut *conn, &subjects).await?;
        }
        if !capped.is_empty() {
            counted.sent = sent(&mut *conn, messaging, &capped).await?;
        }
        if let Some(most) = most {
            counted.used = used(&mut *conn, messaging, most).await?;
        }
        if let Some(most) = people {
            counted.read_people(conn, &spoken, most).await?;
        }
        Ok(counted)
    }

    /// Whether somebody's last messages and those of this claim are so many that other claimers' matter.
    fn is_pair_near(&self, claimed: &[Claimed]) -> bool {
        let mut of_each: HashMap<SubjectId, usize> = HashMap::new();
        for it in claimed {
            *of_each.entry(it.subject).or_default() += 1;
        }
        let before = |subject| self.pairs.get(subject).map_or(0, Vec::len);
        of_each.iter().any(|(subject, count)| before(subject) + count > PAIR_FEW)
    }

    /// Whether the business speaks first: she has not written within a day.
    fn speaks_first(&self, intent: &Claimed) -> bool {
        intent.template.is_some() && !self.windows.contains(&intent.subject)
    }

    /// Counts people as far as `most` asks for it: far below it, each message as somebody.
    async fn read_people(
        &mut self,
        conn: &mut PgConnection,
        spoken: &[SubjectId],
        most: u64,
    ) -> Result<(), sqlx::Error> {
        const KNOWN: &str = "
            SELECT DISTINCT subject_id FROM intents
            WHERE subject_id = ANY($1) AND started_at > now() - interval '24 hours' AND speaks_first";
        const MESSAGES: &str = "
            SELECT count(*) FROM (
                SELECT FROM intents WHERE started_at > now() - interval '24 hours' AND speaks_first
                LIMIT $1) AS spoken";
        const PEOPLE: &str = "
            SELECT count(*), coalesce(extract(epoch FROM now() - min(last)), 0)::float8
            FROM (SELECT max(started_at) AS last FROM intents
                  WHERE started_at > now() - interval '24 hours' AND speaks_first
                  GROUP BY subject_id) AS people";
        let known: Vec<SubjectId> =
            sqlx::query_scalar(KNOWN).bind(spoken).fetch_all(&mut *conn).await?;
        self.known = known.into_iter().collect();
        if spoken.iter().all(|subject| self.known.contains(subject)) {
            return Ok(());
        }
        let messages: i64 =
            sqlx::query_scalar(MESSAGES).bind(rows(most)).fetch_one(&mut *conn).await?;
        self.people = u64::try_from(messages).unwrap_or_default();
        if self.people + spoken.len() as u64 <= most {
            return Ok(());
        }
        let row = sqlx::query(PEOPLE).fetch_one(conn).await?;
        self.people = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
        self.people_room = left(row.try_get(1)?);
        Ok(())
    }

    /// Counts one more message, if nothing stands in its way; gives whether the business speaks first.
    fn take(
        &mut self,
        messaging: &Messaging,
        intent: &Claimed,
        bulk: bool,
    ) -> Result<bool, Obstacle> {
        let speaks_first = self.speaks_first(intent);
        let Day { ceilings, number, .. } = &self.day;
        let caps = &messaging.config.limits.caps;
        let sent = self.sent.entry((intent.subject, intent.purpose.clone())).or_default();
        if caps.is_full(&intent.purpose, &sent.certain) {
            return Err(Obstacle::Refuse(CAPPED));
        }
        if caps.is_full(&intent.purpose, &sent.all) {
            return Err(Obstacle::Wait(UNDECIDED, PAUSE.0));
        }
        let pair = self.pairs.entry(intent.subject).or_default();
        if let Some(room) = PAIR.room(pair) {
            return Err(Obstacle::Wait(PAIR_LIMIT, room));
        }
        if bulk && ceilings.on(*number).is_some_and(|most| self.used.messages >= most) {
            return Err(Obstacle::Wait(CEILING, self.used.room));
        }
        let is_new = speaks_first && !self.known.contains(&intent.subject);
        if is_new && ceilings.people.is_some_and(|most| self.people >= most) {
            return Err(Obstacle::Wait(TIER, self.people_room));
        }
        sent.all.push(Duration::ZERO);
        pair.push(Duration::ZERO);
        self.used.messages += u64::from(bulk);
        if is_new {
            self.people += 1;
            self.known.insert(intent.subject);
        }
        Ok(speaks_first)
    }
}

/// How long ago the last messages to these people went out, as far as the provider counts them together.
async fn pairs(
    conn: &mut PgConnection,
    people: &[SubjectId],
) -> Result<HashMap<SubjectId, Vec<Duration>>, sqlx::Error> {
    const LAST: &str = "
        SELECT subject_id, extract(epoch FROM now() - started_at)::float8 FROM intents
        WHERE subject_id = ANY($1) AND started_at > now() - make_interval(secs => $2)";
    let mut pairs: HashMap<SubjectId, Vec<Duration>> = HashMap::new();
    let rows =
        sqlx::query(LAST).bind(people).bind(PAIR.window.as_secs_f64()).fetch_all(conn).await?;
    for row in rows {
        let ago = Duration::from_secs_f64(row.try_get::<f64, _>(1)?.max(0.0));
        pairs.entry(row.try_get(0)?).or_default().push(ago);
    }
    Ok(pairs)
}

/// How long ago messages of capped purposes went out to these people.
async fn sent(
    conn: &mut PgConnection,
    messaging: &Messaging,
    people: &[SubjectId],
) -> Result<HashMap<(SubjectId, String), Sent>, sqlx::Error> {
    const SENT: &str = "
        SELECT subject_id, purpose, extract(epoch FROM now() - started_at)::float8,
               state IN ('accepted', 'uncertain')
        FROM intents
        WHERE subject_id = ANY($1) AND purpose = ANY($2)
          AND started_at > now() - make_interval(secs => $3)";
    let caps = &messaging.config.limits.caps;
    let mut sent: HashMap<(SubjectId, String), Sent> = HashMap::new();
    let rows = sqlx::query(SENT)
        .bind(people)
        .bind(caps.purposes())
        .bind(caps.longest().as_secs_f64())
        .fetch_all(conn)
        .await?;
    for row in rows {
        let ago = Duration::from_secs_f64(row.try_get::<f64, _>(2)?.max(0.0));
        let of = sent.entry((row.try_get(0)?, row.try_get(1)?)).or_default();
        if row.try_get(3)? {
            of.certain.push(ago);
        }
        of.all.push(ago);
    }
    Ok(sent)
}
