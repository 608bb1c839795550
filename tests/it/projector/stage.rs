//! A corner of one test's own: topics, a database, a producer of consent events, and a follower.

use std::sync::Arc;
use std::time::Duration;

use assent_bus::producer::Record;
use assent_bus::{BusConfig, Producer, consumer, end_offsets, ensure_topics};
use assent_contracts::consent::{Actor, GRANTED, Granted, Method};
use assent_contracts::erasure::{Command, Step};
use assent_contracts::topics::{ALL, CONSENT_EVENTS};
use assent_eventstore::{EventStore, schema};
use assent_http::ServiceClient;
use assent_participant::{Participant, Steps as _, hear};
use assent_projector::erasure::Eraser;
use assent_projector::rebuild::{self, Progress, Rebuilder};
use assent_projector::{Follower, Projection};
use assent_runtime::{Clock, Ids, LeaseTerms, Lifecycle, SystemClock, SystemIds};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use tokio::sync::Notify;
use uuid::Uuid;

use assent_tests::harness;

pub const BOUND: Duration = Duration::from_secs(60);

pub const TERMS: LeaseTerms =
    LeaseTerms { length: Duration::from_millis(60), drift: Duration::from_millis(10) };

/// A topic prefix, a database and a producer of one test's own.
pub struct Stage {
    pub config: BusConfig,
    pub url: String,
    /// The test's own connections.
    pub pool: PgPool,
    /// The follower's, which a test may cut: the server may carry a cut out when the connection
    /// has long been given back, and then whoever takes it next would feel it.
    followers: PgPool,
    pub producer: Producer,
}

/// An event to publish.
#[derive(Debug, Clone)]
pub struct Made {
    pub id: Uuid,
    pub key: Uuid,
    pub sequence: i64,
    pub data: String,
}

/// A consent given to a purpose.
pub fn granted(key: Uuid, sequence: i64, purpose: &str) -> Made {
    let data = Granted {
        purpose: purpose.to_owned(),
        channel: "whatsapp".to_owned(),
        notice_hash: "00".to_owned(),
        notice_version: 1,
        actor: Actor::Subject,
        method: Method::Api,
        place: None,
        confirms: None,
        lapses_after_days: None,
        at: SystemClock.now(),
        acted_at: None,
        valid_until: None,
        evidence: None,
    };
    let data = serde_json::to_string(&data).unwrap();
    Made { id: SystemIds.v7(), key, sequence, data }
}

pub fn keys(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| SystemIds.v4()).collect()
}

impl Stage {
    pub async fn new() -> Self {
        let config = BusConfig::new(harness::kafka(), harness::topic_prefix());
        ensure_topics(&config, &ALL).await.expect("the topics can be made");
        let url = harness::database_url("projector").await;
        let pool = assent_eventstore::connect(&url, 8).await.expect("the database answers");
        let followers = assent_eventstore::connect(&url, 4).await.expect("the database answers");
        schema::migrate(&pool, assent_projector::migrators())
            .await
            .expect("the schema can be made");
        let producer = Producer::new(&config).unwrap();
        Self { config, url, pool, followers, producer }
    }

    pub async fn publish(&self, events: &[Made]) {
        let records: Vec<_> = events
            .iter()
            .map(|event| Record {
                topic: CONSENT_EVENTS.suffix,
                key: event.key,
                sequence: Some(event.sequence),
                event_sequence: None,
                id: event.id,
                event_type: GRANTED,
                time: SystemClock.now(),
                traceparent: None,
                payload: Some(event.data.as_bytes()),
            })
            .collect();
        for answer in self.producer.send(&records).await {
            answer.expect("Kafka takes the record");
        }
    }

    /// Starts a follower of consent events.
    pub fn follow(&self) -> Lifecycle {
        let life = Lifecycle::new();
        let follower = Arc::new(Follower(Projection::Consents));
        consumer::spawn(&life, self.config.clone(), self.followers.clone(), follower);
        life
    }

    pub async fn behind_it(&self) -> i64 {
        let positions =
            consumer::positions(&self.pool, Projection::Consents.consumer()).await.unwrap();
        positions.values().sum()
    }

    /// Waits until the follower has read to the end.
    pub async fn drained(&self) {
        let ends = end_offsets(&self.config, CONSENT_EVENTS).await.unwrap();
        let end: i64 = ends.values().sum();
        eventually("the follower has read to the end", async || self.behind_it().await == end)
            .await;
    }

    pub fn rebuilder(&self) -> Rebuilder {
        Rebuilder {
            pool: self.pool.clone(),
            bus: self.config.clone(),
            clock: Arc::new(SystemClock),
            asked: Arc::new(Notify::new()),
        }
    }

    pub async fn ask_for_rebuild(&self, accept_differences: bool) -> bool {
        let now = SystemClock.now();
        rebuild::request(&self.pool, Projection::Consents, accept_differences, now).await.unwrap()
    }

    pub async fn progress(&self) -> Progress {
        rebuild::progress(&self.pool, Projection::Consents).await.unwrap().unwrap()
    }

    /// Rebuilds from zero and says how it ended.
    pub async fn rebuild(&self) -> Progress {
        assert!(self.ask_for_rebuild(false).await);
        self.rebuilder().work().await.unwrap();
        self.progress().await
    }

    /// The bytes of the live model, row by row.
    pub async fn rows(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT c::text FROM live.consents c ORDER BY subject_id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Locks a table until the transaction ends, so that whoever writes to it waits. Reading goes
    /// on, and no transaction id is drawn: a key's destruction elsewhere doesn't wait for this one.
    pub async fn lock(&self, table: &str, mode: &str) -> Transaction<'static, Postgres> {
        let mut held = self.pool.begin().await.unwrap();
        // As long as the test wants, also where the machine stands still.
        let statements = format!(
            "SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE {table} IN {mode} MODE"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *held).await.unwrap();
        held
    }

    pub async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&self.pool).await.unwrap()
    }

    /// Does a step of an erasure.
    pub async fn erase(&self, subject: Uuid, step: Step) -> assent_contracts::erasure::Evidence {
        let command = command(subject, step);
        self.hear(&command).await;
        self.participant("http://127.0.0.1:1").carry_out(&command).await.unwrap()
    }

    /// Hears a command of the saga.
    pub async fn hear(&self, command: &Command) {
        let mut connection = self.pool.acquire().await.unwrap();
        hear(&mut connection, &SystemClock, command).await.unwrap();
    }

    /// The projector's part in erasures, with a saga at this address.
    pub fn participant(&self, saga: &str) -> Participant<Eraser> {
        Participant {
            steps: Eraser { clock: Arc::new(SystemClock) },
            store: EventStore::new(self.pool.clone(), b""),
            clock: Arc::new(SystemClock),
            terms: TERMS,
            saga: ServiceClient::new(saga, &"t".into()).unwrap(),
            bus: self.config.clone(),
            follows: Vec::new(),
            heard: Arc::default(),
        }
    }
}

pub fn command(subject: Uuid, step: Step) -> Command {
    Command {
        command_id: SystemIds.v7(),
        request_id: SystemIds.v7(),
        subject_id: subject,
        step,
        participants: vec![Eraser::PARTICIPANT.to_owned()],
        barrier: Default::default(),
        at: SystemClock.now(),
    }
}

/// Polls a condition until it holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(BOUND, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within {BOUND:?}: {what}"));
}
