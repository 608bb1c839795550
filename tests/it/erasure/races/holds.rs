//! One wave of races: some begin together, and what is held in the middle meanwhile is drawn. It guarantees that each
//! hold struck, by the log of the process that was held, and that none stands longer than it has to.

use std::cell::RefCell;
use std::collections::BTreeSet;

use assent_contracts::erasure::Step;
use assent_tests::cluster::{Cluster, until};
use assent_tests::soak::dice::Dice;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::course::{Kind, Race, Ran, Signal, When, idle};

/// Steps, and who answers them.
const STEPS: [(Step, &[&str]); 4] = [
    (Step::Fence, &["consent", "messaging", "projector", "vault"]),
    (Step::Delete, &["consent", "messaging", "projector", "vault"]),
    (Step::DestroyKeys, &["vault"]),
    (Step::Sweep, &["consent", "messaging", "projector", "vault"]),
];
/// Where in its step a participant is held.
const PLACES: [&str; 4] = ["before_commit", "after_commit", "before_answer", "after_answer"];

/// Where what is done about people is held, in the middle of its own transaction or call. An import writes nothing
/// of whom it knows, and a replay is held by the erasure's step.
const fn middle(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Append => Some(("projector", "consumer.before_commit")),
        Kind::Webhook => Some(("messaging", "messaging.webhooks_taken")),
        Kind::Send => Some(("messaging", "messaging.after_permit")),
        Kind::Rebuild => Some(("projector", "projector.before_swap_commit")),
        Kind::Import | Kind::Replay => None,
    }
}

/// What holds at this moment, in any process.
struct Holds<'a> {
    cluster: &'a Cluster,
    standing: RefCell<BTreeSet<(&'static str, String)>>,
}

/// One of them.
struct Hold {
    service: &'static str,
    point: String,
    /// How often it had struck before.
    before: usize,
}

impl Holds<'_> {
    fn put(&self, service: &'static str, point: String) -> Hold {
        let before = self.cluster.failpoints(service).struck(&point).len();
        self.standing.borrow_mut().insert((service, point.clone()));
        self.tell(service);
        Hold { service, point, before }
    }

    fn lift(&self, hold: &Hold) {
        self.standing.borrow_mut().remove(&(hold.service, hold.point.clone()));
        self.tell(hold.service);
    }

    async fn strikes(&self, hold: &Hold) {
        let failpoints = self.cluster.failpoints(hold.service);
        until(&format!("{} is held at {}", hold.service, hold.point), async || {
            failpoints.struck(&hold.point).len() > hold.before
        })
        .await;
    }

    fn tell(&self, service: &str) {
        let standing = self.standing.borrow();
        let here = standing.iter().filter(|(held, _)| *held == service);
        let entries: Vec<String> = here.map(|(_, point)| format!("{point}=hold")).collect();
        self.cluster.failpoints(service).set(&entries.join("\n"));
    }
}

/// Runs these races beside each other.
pub async fn wave(cluster: &Cluster, mut races: Vec<Race>, dice: &mut Dice) -> Vec<Ran> {
    let holds = Holds { cluster, standing: RefCell::default() };
    let (step, participants) = *dice.one_of(&STEPS);
    let (participant, place) = (*dice.one_of(participants), *dice.one_of(&PLACES));
    let at_step = holds.put(participant, format!("participant.{}.{place}", step.name()));
    let may_own = |race: &Race| {
        let held = middle(race.kind).is_some();
        held && matches!(race.when, When::Beside | When::AtStep)
    };
    let owners: Vec<usize> = (0..races.len()).filter(|at| may_own(&races[*at])).collect();
    // It begins before her erasure is asked for, and is held until she is fenced.
    let mut held = None;
    if !owners.is_empty() {
        let owner = &mut races[*dice.one_of(&owners)];
        (owner.when, owner.ahead) = (When::Beside, true);
        let (service, point) = middle(owner.kind).expect("it was chosen for that");
        held = Some((owner.subject.clone(), holds.put(service, point.to_owned())));
    }
    let (head, tail) = (dice.below(4), dice.below(4));

    let (tell, wave) = watch::channel(Signal::Nothing);
    let client = cluster.client();
    let consent = cluster.pool("consent").await;
    let mut running = JoinSet::new();
    for race in races {
        running.spawn(race.run(client.clone(), wave.clone()));
    }
    if let Some((_, hold)) = &held {
        holds.strikes(hold).await;
    }
    tell.send_replace(Signal::Ask);
    let in_the_middle = async {
        if let Some((subject, hold)) = &held {
            fenced(&consent, subject).await;
            idle(&client, tail).await;
            holds.lift(hold);
        }
    };
    let in_the_step = async {
        holds.strikes(&at_step).await;
        tell.send_replace(Signal::Struck);
        idle(&client, head + 1).await;
        holds.lift(&at_step);
    };
    tokio::join!(in_the_middle, in_the_step);
    running.join_all().await
}

/// Waits until the ledger takes nothing more about her.
async fn fenced(consent: &PgPool, subject: &str) {
    const FENCED: &str = "SELECT EXISTS (SELECT FROM fences WHERE subject_id::text = $1)";
    until("she is fenced in the ledger", async || {
        sqlx::query_scalar(FENCED).bind(subject).fetch_one(consent).await.unwrap()
    })
    .await;
}
