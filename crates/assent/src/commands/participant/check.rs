//! `assent participant check`: the conformance kit. It plays a saga against a team's own service, on topics
//! of a rehearsal or by calls to its address, and judges what comes back; no deployment of Assent takes part and no
//! person is touched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use assent_bus::producer::Record;
use assent_bus::{BusConfig, Producer, end_offsets, ensure_topics};
use assent_contracts::consent::CONTACTED;
use assent_contracts::erasure::{COMMAND, Command, Positions, Step};
use assent_contracts::topics::{CONSENT_EVENTS, ERASURE_COMMANDS, MESSAGING_EVENTS, VAULT_EVENTS};
use assent_runtime::{Clock, Ids, SystemClock, SystemIds};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::judge::{Answer, faults};
use super::stand_in::StandIn;
use super::webhook::{Signed, Webhook};
use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent participant check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent participant check crm --brokers 127.0.0.1:7192
  assent participant check crm --brokers kafka:9092 --listen 0.0.0.0:7190 --subject 0f4b… --json
  assent participant check crm --webhook http://127.0.0.1:8080/assent

Start your service with what it prints (Kafka and topic prefix, or the secret of its webhook; address and token), and
let it run: it is sent commands about an invented person, and its answers are judged as a saga would. With --subject
it is about a person whom your service holds in this rehearsal, and it must then find something to delete. Exit status:
0 as agreed, 1 not, 2 wrong use, 3 Kafka didn't answer.")]
pub struct Check {
    /// The name under which the service answers.
    name: String,
    /// Where Kafka is, `host:port`.
    #[arg(long, required_unless_present = "webhook", conflicts_with = "webhook")]
    brokers: Option<String>,
    /// Where your service is called, instead of reading Kafka.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// What the rehearsal's topics begin with: `rehearsal.`, or `rehearsal-` and more. They are made if they
    /// aren't there.
    #[arg(long, default_value = "rehearsal.", value_parser = prefix)]
    prefix: String,
    /// Where answers are taken.
    #[arg(long, default_value = "127.0.0.1:7190")]
    listen: SocketAddr,
    /// The token that the service must come with; a rehearsal's, no secret.
    #[arg(long, default_value = "rehearsal")]
    rehearsal_token: String,
    /// The service keeps keys of persons.
    #[arg(long)]
    keeps_keys: bool,
    /// A person whom the service holds, instead of an invented one.
    #[arg(long, value_name = "UUID")]
    subject: Option<Uuid>,
    /// How long each answer may take, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience_s: u64,
}

/// The point about calls that aren't a deployment's.
const FORGED: &str = "calls that aren't signed with its secret, or are old, it refuses";

/// Commands that must not be answered, and what they are.
type Unasked = Vec<(&'static str, Uuid)>;

/// One point of the contract.
#[derive(Debug, Serialize)]
struct Point {
    point: &'static str,
    faults: Vec<String>,
}

impl Check {
    /// Runs it.
    ///
    /// # Errors
    /// When Kafka doesn't answer or the address can't be listened on.
    pub async fn run(&self, output: Output) -> Result<Status, Failure> {
        let (way, told) = match (&self.webhook, &self.brokers) {
            (Some(address), _) => {
                let webhook = Webhook::to(address)?;
                let told = format!("ASSENT_WEBHOOK_SECRET={}", webhook.secret());
                (Way::Webhook(webhook), told)
            }
            (None, brokers) => {
                let brokers = brokers.as_deref().unwrap_or_default();
                let bus = BusConfig::new(brokers, &self.prefix);
                let topics = [ERASURE_COMMANDS, CONSENT_EVENTS, VAULT_EVENTS, MESSAGING_EVENTS];
                ensure_topics(&bus, &topics).await.map_err(kafka)?;
                let producer = Producer::new(&bus).map_err(kafka)?;
                let told = format!("ASSENT_KAFKA={brokers} ASSENT_PREFIX={}", self.prefix);
                (Way::Kafka { bus, producer }, told)
            }
        };
        let stand_in = StandIn::listen(self.listen)
            .await
            .map_err(|error| Failure::wrong_use(format!("{}: {error}", self.listen)))?;
        output.remark(&format!(
            "start your service with {told} ASSENT_URL={} ASSENT_TOKEN={}",
            stand_in.url, self.rehearsal_token
        ));
        let rehearsal = Rehearsal {
            check: self,
            way,
            stand_in,
            request: SystemIds.v7(),
            subject: self.subject.unwrap_or_else(|| SystemIds.v4()),
        };
        let points = rehearsal.play().await?;
        let failed = points.iter().any(|point| !point.faults.is_empty());
        output.print(&points, |points| points.iter().map(line).collect::<Vec<_>>().join("\n"));
        Ok(if failed { Status::Refused } else { Status::Done })
    }
}

/// Made-up records belong on no topic of a deployment.
fn prefix(text: &str) -> Result<String, &'static str> {
    if text.starts_with("rehearsal.") || text.starts_with("rehearsal-") {
        Ok(text.to_owned())
    } else {
        Err(
            "it begins with `rehearsal.` or `rehearsal-`: what the kit writes belongs on no deployment's topics",
        )
    }
}

fn line(Point { point, faults }: &Point) -> String {
    let mut lines = vec![format!("{:<6} {point}", if faults.is_empty() { "ok" } else { "FAILED" })];
    lines.extend(faults.iter().map(|fault| format!("       {fault}")));
    lines.join("\n")
}

/// How the service is reached.
enum Way {
    Kafka { bus: BusConfig, producer: Producer },
    Webhook(Webhook),
}

struct Rehearsal<'a> {
    check: &'a Check,
    way: Way,
    stand_in: StandIn,
    request: Uuid,
    subject: Uuid,
}

impl Rehearsal<'_> {
    /// Plays the saga. What can't be tried once an answer is missing isn't told.
    async fn play(&self) -> Result<Vec<Point>, Failure> {
        let mut points = Vec::new();
        let fence = self.command(Step::Fence, Positions::new());
        self.stand_in.is_away(true);
        self.send(&fence).await?;
        let first = self.answer(&fence, 0, |answer| answer.put_off).await;
        self.stand_in.is_away(false);
        if matches!(self.way, Way::Webhook(_)) {
            // Who is called and wasn't heard is called again, as in a deployment.
            self.send(&fence).await?;
        }
        let again = match &first {
            None => None,
            Some(_) => self.answer(&fence, 0, |answer| !answer.put_off).await,
        };
        let missing = "no answer that names the command";
        points.push(self.judged(
            "fence: it answers what it is asked",
            &fence,
            first.as_ref(),
            missing,
        ));
        if first.is_none() {
            return Ok(points);
        }
        let missing = "it gave up: an answer that wasn't taken (503) must come again";
        points.push(self.judged("it answers until it is heard", &fence, again.as_ref(), missing));
        let Some(again) = again else { return Ok(points) };

        let before = self.stand_in.answers().len();
        self.send(&fence).await?;
        let repeat = self.answer(&fence, before, |_| true).await;
        let missing = "a command that comes again is answered again";
        let mut point = self.judged(
            "a repeat is answered with the same evidence",
            &fence,
            repeat.as_ref(),
            missing,
        );
        if repeat.is_some_and(|repeat| repeat.evidence() != again.evidence()) {
            point.faults.push("the evidence is another than the first time".to_owned());
        }
        points.push(point);

        let (others, mut passing) = self.send_what_is_none_of_its_business().await?;
        let forged = self.forge(&mut points).await?;
        let delete = self.command(Step::Delete, self.barrier().await?);
        let mut point =
            self.step("delete: with its evidence, and not behind the barrier", &delete).await?;
        if let (Some(answer), Some(_)) = (self.last(&delete), self.check.subject)
            && answer.touched() == 0
        {
            point
                .faults
                .push("it deleted nothing, though it is said to hold this person".to_owned());
        }
        points.push(point);
        if self.check.keeps_keys {
            let destroy = self.command(Step::DestroyKeys, Positions::new());
            points.push(self.step("destroy_keys: with its evidence", &destroy).await?);
        }
        let sweep = self.command(Step::Sweep, Positions::new());
        points.push(self.step("sweep: nothing is left", &sweep).await?);

        // Everything before the sweep stands before it in the same partition, so it has been read.
        let answered = |id: &Uuid| self.stand_in.answers().iter().any(|answer| answer.is_to(*id));
        let foreign = others.iter().filter(|(_, id)| answered(id));
        passing.extend(foreign.map(|(what, _)| format!("it answered {what}")));
        let believed = forged.iter().filter(|(_, id)| answered(id));
        let believed: Vec<_> = believed.map(|(what, _)| format!("it answered {what}")).collect();
        if let Some(point) = points.iter_mut().find(|point| point.point == FORGED) {
            point.faults.extend(believed);
        }
        let point = "what isn't for it, or isn't known, it passes over";
        points.push(Point { point, faults: passing });
        Ok(points)
    }

    /// Sends a command and judges its answer.
    async fn step(&self, point: &'static str, command: &Command) -> Result<Point, Failure> {
        self.send(command).await?;
        let answer = self.answer(command, 0, |_| true).await;
        Ok(self.judged(point, command, answer.as_ref(), "no answer that names the command"))
    }

    fn judged(
        &self,
        point: &'static str,
        command: &Command,
        answer: Option<&Answer>,
        missing: &str,
    ) -> Point {
        let (name, token) = (&self.check.name, &self.check.rehearsal_token);
        let faults = match answer {
            Some(answer) => faults(command, name, token, answer),
            None => vec![missing.to_owned()],
        };
        Point { point, faults }
    }

    /// Waits for an answer to this command, behind the first `after` of all.
    async fn answer(
        &self,
        command: &Command,
        after: usize,
        is_it: impl Fn(&Answer) -> bool,
    ) -> Option<Answer> {
        let patience = Duration::from_secs(self.check.patience_s);
        let of = |answers: &[Answer]| {
            let mut new = answers.iter().skip(after);
            new.find(|answer| answer.is_to(command.command_id) && is_it(answer)).cloned()
        };
        self.stand_in.wait(patience, of).await
    }

    fn last(&self, command: &Command) -> Option<Answer> {
        self.stand_in.answers().into_iter().rfind(|answer| answer.is_to(command.command_id))
    }

    fn command(&self, step: Step, barrier: Positions) -> Command {
        Command {
            command_id: SystemIds.v7(),
            request_id: self.request,
            subject_id: self.subject,
            step,
            participants: vec![self.check.name.clone()],
            barrier,
            at: SystemClock.now(),
        }
    }

    async fn send(&self, command: &Command) -> Result<(), Failure> {
        let data = json!(command).to_string();
        match &self.way {
            Way::Kafka { producer, .. } => {
                self.publish(producer, ERASURE_COMMANDS.suffix, COMMAND, None, &data).await
            }
            Way::Webhook(webhook) => {
                let patience = Duration::from_secs(self.check.patience_s);
                webhook.send(self.subject, COMMAND, data, patience);
                Ok(())
            }
        }
    }

    /// A command for somebody else, one of a step that nobody knows yet, another type, and noise: with the
    /// commands that must not be answered, and what is wrong already.
    async fn send_what_is_none_of_its_business(&self) -> Result<(Unasked, Vec<String>), Failure> {
        let mut foreign = self.command(Step::Fence, Positions::new());
        foreign.participants = vec!["somebody-else".to_owned()];
        let unknown = self.command(Step::Fence, Positions::new());
        let mut later: Value = json!(unknown);
        later["step"] = json!("step_of_a_later_version");
        let other = self.command(Step::Fence, Positions::new());
        let sent = [
            ("a command for somebody else", COMMAND, json!(foreign), foreign.command_id),
            ("a command of a step that it can't know", COMMAND, later, unknown.command_id),
            (
                "a record of another type",
                "assent.erasure.command.v2",
                json!(other),
                other.command_id,
            ),
        ];
        let mut faults = Vec::new();
        for (what, event_type, data, _) in &sent {
            match &self.way {
                Way::Kafka { producer, .. } => {
                    let topic = ERASURE_COMMANDS.suffix;
                    self.publish(producer, topic, event_type, None, &data.to_string()).await?;
                }
                Way::Webhook(webhook) => {
                    let data = data.to_string();
                    let sent = webhook.send_once(self.subject, event_type, &data, Signed::Well);
                    if let Err(error) = sent.await {
                        // In a deployment what comes after would wait behind it.
                        faults.push(format!("it doesn't take {what}: {error}"));
                    }
                }
            }
        }
        if let Way::Kafka { producer, .. } = &self.way {
            self.publish(producer, ERASURE_COMMANDS.suffix, COMMAND, None, "noise").await?;
        }
        Ok((sent.map(|(what, _, _, id)| (what, id)).to_vec(), faults))
    }

    /// Calls that nobody but a forger makes, and one with two signatures; the commands that must not be answered.
    async fn forge(&self, points: &mut Vec<Point>) -> Result<Unasked, Failure> {
        let Way::Webhook(webhook) = &self.way else { return Ok(Vec::new()) };
        let (mut forged, mut faults) = (Vec::new(), Vec::new());
        for (what, signed) in [
            ("a call with somebody else's signature", Signed::ByAnother),
            ("a call that was signed an hour ago", Signed::LongAgo),
        ] {
            let command = self.command(Step::Fence, Positions::new());
            let data = json!(command).to_string();
            if webhook.send_once(self.subject, COMMAND, &data, signed).await.is_ok() {
                faults.push(format!("it takes {what}"));
            }
            forged.push((what, command.command_id));
        }
        points.push(Point { point: FORGED, faults });
        let command = self.command(Step::Fence, Positions::new());
        let data = json!(command).to_string();
        let sent = webhook.send_once(self.subject, COMMAND, &data, Signed::Twice).await;
        let faults = sent.err().map(|error| format!("it doesn't take it: {error}"));
        let point = "of two signatures, while secrets are rotated, one is enough";
        points.push(Point { point, faults: faults.into_iter().collect() });
        Ok(forged)
    }

    /// A late event of hers, and how far the topic reaches with it. Who reads no topic has nothing to wait for.
    async fn barrier(&self) -> Result<Positions, Failure> {
        let Way::Kafka { bus, producer } = &self.way else { return Ok(Positions::new()) };
        let data =
            json!({"channel": "whatsapp", "at": SystemClock.now(), "acted_at": SystemClock.now()});
        let (topic, data) = (CONSENT_EVENTS.suffix, data.to_string());
        self.publish(producer, topic, CONTACTED, Some(1), &data).await?;
        let mut ends = end_offsets(bus, CONSENT_EVENTS).await.map_err(kafka)?;
        ends.retain(|_, end| *end > 0);
        Ok(BTreeMap::from([(bus.topic_name(&CONSENT_EVENTS), ends)]))
    }

    async fn publish(
        &self,
        producer: &Producer,
        topic: &str,
        event_type: &str,
        sequence: Option<i64>,
        data: &str,
    ) -> Result<(), Failure> {
        let record = Record {
            topic,
            key: self.subject,
            sequence,
            event_sequence: None,
            id: SystemIds.v7(),
            event_type,
            time: SystemClock.now(),
            traceparent: None,
            payload: Some(data.as_bytes()),
        };
        producer.send(&[record]).await.into_iter().collect::<Result<(), _>>().map_err(kafka)
    }
}

fn kafka(error: impl std::fmt::Display) -> Failure {
    Failure {
        status: Status::Unreachable,
        code: "unreachable".to_owned(),
        message: format!("kafka: {error}"),
    }
}
