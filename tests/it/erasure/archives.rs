//! What a request to see, or to take along, what is held is answered with: G5, G6, traps 13 and 19, against real Postgres.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assent_contracts::erasure::Step;
use assent_contracts::rights::{
    ARCHIVE_COLLECTED, ARCHIVE_PREPARED, ARCHIVE_REMOVED, REQUEST_ANSWERED,
};
use assent_runtime::{Clock as _, ManualClock, SystemClock};
use assent_tests::cluster::until;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, pace};

fn checked() -> Value {
    json!({"identity": {"method": "number_reply", "reason": "code_repeated"}})
}

fn id(opened: &Value) -> Uuid {
    opened["request_id"].as_str().unwrap().parse().unwrap()
}

impl World {
    /// How many archives lie there, sealed or still to be made.
    async fn archives(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM archives").fetch_one(&self.pool).await.unwrap()
    }

    /// A request of hers that is answered: its archive waits.
    async fn answered(&self, kind: &str) -> Value {
        let (status, opened) = self.open(kind, checked()).await;
        assert_eq!(status, StatusCode::CREATED, "{opened}");
        self.until(id(&opened), "answered").await;
        opened
    }
}

#[tokio::test]
async fn what_is_held_is_handed_out_once_and_to_whoever_has_the_secret() {
    let world = World::new("consent", pace()).await;
    let (_, opened) = world.open("access", json!({})).await;
    assert_eq!(world.collects(&opened).await.0, StatusCode::CONFLICT, "it isn't shown who asks");
    let (status, problem) = world.does(&opened, "archive", json!({})).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("identity_pending")));
    assert_eq!(world.holders.asked.load(Ordering::Acquire), 0, "nobody was asked");

    world.does(&opened, "identity", checked()["identity"].clone()).await;
    let view = world.until(id(&opened), "answered").await;
    assert!(
        view["completed_at"].is_string() && view["archive"]["expires_at"].is_string(),
        "{view}"
    );
    let (_, tracked) = world.tracks(&opened["reference"], &opened["secret"]).await;
    assert_eq!(tracked["archive"], view["archive"]);
    let kept = world.all_that_is_kept().await;
    for plain in ["Canary", "33612345678", "ada@example.org", "form 12", "43616e617279"] {
        assert!(!kept.contains(plain), "{plain} is kept in the clear");
    }
    let forged = json!({"reference": opened["reference"], "secret": "00000-00000-00000-00000"});
    assert_eq!(world.collects(&forged).await.0, StatusCode::NOT_FOUND);

    let (status, archive) = world.collects(&opened).await;
    assert_eq!(status, StatusCode::OK, "{archive}");
    for hers in [
        "Canary Ada",
        "TEL;VALUE=text;TYPE=cell:+33612345678",
        "form 12",
        "en.html",
        "Что мы о вас храним",
    ] {
        assert!(archive.contains(hers), "{hers}: {archive}");
    }
    for others in ["+33698765432", "bob@example.org"] {
        assert!(!archive.contains(others), "{others}: {archive}");
    }
    let (status, again) = world.collects(&opened).await;
    assert_eq!((status, again.contains("archive_gone")), (StatusCode::CONFLICT, true), "{again}");
    assert_eq!(world.archives().await, 0);
    for (event, times) in [(ARCHIVE_PREPARED, 1), (REQUEST_ANSWERED, 1), (ARCHIVE_COLLECTED, 1)] {
        assert_eq!(world.events(event).await, times, "{event}");
    }
    // She lost it: it is put together anew, and the answer stays the first one.
    let (status, view) = world.does(&opened, "archive", json!({})).await;
    assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("answered")), "{view}");
    assert_eq!(world.collects(&opened).await.0, StatusCode::OK);
    assert_eq!(world.events(REQUEST_ANSWERED).await, 1);
    world.stop().await;
}

/// GDPR Article 20: neither notes about her, nor whoever is not a recipient of hers.
#[tokio::test]
async fn what_she_takes_along_is_hers() {
    let world = World::new("consent", pace()).await;
    let opened = world.answered("portability").await;
    let (status, archive) = world.collects(&opened).await;
    assert_eq!((status, archive.contains("Canary Ada")), (StatusCode::OK, true), "{archive}");
    assert!(!archive.contains("asks for") && !archive.contains("form 12"), "{archive}");
    world.stop().await;
}

#[tokio::test]
async fn an_archive_that_nobody_collects_ends_with_its_time() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = World::by(clock.clone(), "consent", pace()).await;
    let opened = world.answered("access").await;
    clock.advance(Duration::from_secs(24 * 3600));
    let (status, problem) = world.collects(&opened).await;
    assert_eq!(
        (status, problem.contains("archive_gone")),
        (StatusCode::CONFLICT, true),
        "{problem}"
    );
    until("it is destroyed", async || world.archives().await == 0).await;
    assert_eq!(world.data_of(ARCHIVE_REMOVED).await["reason"], "expired");
    assert_eq!(world.events(ARCHIVE_COLLECTED).await, 0);
    let (_, tracked) = world.tracks(&opened["reference"], &opened["secret"]).await;
    assert_eq!(tracked["archive"]["removed"], "expired");
    // She comes late: she gets what is held then.
    assert_eq!(world.does(&opened, "archive", json!({})).await.0, StatusCode::OK);
    assert_eq!(world.collects(&opened).await.0, StatusCode::OK);
    world.stop().await;
}

/// G6, trap 13: an erasure that begins while an archive waits, or is being put together, leaves none.
#[tokio::test]
async fn trap_13_an_erasure_that_comes_meanwhile_leaves_no_archive() {
    let world = World::new("consent,vault:keys", pace()).await;
    let waits = world.answered("access").await;
    world.holders.hesitate.store(true, Ordering::Release);
    let before = world.holders.asked.load(Ordering::Acquire);
    let (_, gathered) = world.open("portability", checked()).await;
    until("it is being put together", async || {
        world.holders.asked.load(Ordering::Acquire) > before
    })
    .await;
    let (_, erasure) = world.request("erase").await;
    world.hears(Step::Fence, "vault").await;
    world.holders.hesitate.store(false, Ordering::Release);

    let (status, problem) = world.collects(&waits).await;
    assert_eq!((status, problem.contains("erased")), (StatusCode::CONFLICT, true), "{problem}");
    until("nothing lies there", async || world.archives().await == 0).await;
    assert_eq!(world.data_of(ARCHIVE_REMOVED).await["reason"], "erased");
    let (status, problem) = world.does(&gathered, "archive", json!({})).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("erased")));
    assert_eq!(world.events(ARCHIVE_PREPARED).await, 1, "the second one was never kept");
    for step in [Step::Fence, Step::Delete, Step::DestroyKeys, Step::Sweep] {
        world.answer_all(step).await;
    }
    world.until(erasure, "completed").await;
    assert_eq!(world.archives().await, 0);
    world.stop().await;
}

/// Where a hold keeps her erasure waiting she can still see what is held.
#[tokio::test]
async fn an_archive_outlives_an_erasure_that_a_hold_keeps_waiting() {
    let world = World::new("consent,vault:keys", pace()).await;
    let waits = world.answered("access").await;
    let hold = json!({"subject_id": world.subject, "reason": "litigation", "review_on":
        SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date().checked_add(jiff::Span::new().days(30)).unwrap()});
    let (status, held) = world.post("counsel", "/v1/holds", &hold, None).await;
    assert_eq!(status, StatusCode::CREATED, "{held}");
    let (_, erasure) = world.request("erase").await;
    world.until(erasure, "on_hold").await;
    assert_eq!(world.collects(&waits).await.0, StatusCode::OK);
    world.stop().await;
}
