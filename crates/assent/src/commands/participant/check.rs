//! `assent participant check`: the conformance kit. It plays a saga against a team's own service, on topics
//! of a rehearsal, and judges what comes back; no deployment of Assent takes part and no person is touched.

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
use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent participant check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent participant check crm --brokers 127.0.0.1:7192
  assent participant check crm --brokers kafka:9092 --listen 0.0.0.0:7190 --subject 0f4b… --json

Start your service with the Kafka, topic prefix, address and token that it prints, and let it run: it is sent commands
about an invented person, and its answers are judged as a saga would. With --subject it is about a person whom your
service holds in this rehearsal, and it must then find something to delete. Exit status: 0 as agreed, 1 not, 2 wrong
use, 3 Kafka didn't answer.")]
pub struct Check {
    /// The name under which the service answers.
    name: String,
    /// Where Kafka is, `host:port`.
    #[arg(long)]
    brokers: String,
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
        let bus = BusConfig::new(&self.brokers, &self.prefix);
        let topics = [ERASURE_COMMANDS, CONSENT_EVENTS, VAULT_EVENTS, MESSAGING_EVENTS];
        ensure_topics(&bus, &topics).await.map_err(kafka)?;
        let stand_in = StandIn::listen(self.listen)
            .await
            .map_err(|error| Failure::wrong_use(format!("{}: {error}", self.listen)))?;
        output.remark(&format!(
            "start your service with ASSENT_KAFKA={} ASSENT_PREFIX={} ASSENT_URL={} ASSENT_TOKEN={}",
            self.brokers, self.prefix, stand_in.url, self.rehearsal_token
        ));
        let rehearsal = Rehearsal {
            check: self,
            producer: Producer::new(&bus).map_err(kafka)?,
            bus,
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

struct Rehearsal<'a> {
    check: &'a Check,
    bus: BusConfig,
    producer: Producer,
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

        let others = self.send_what_is_none_of_its_business().await?;
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
        let faults = foreign.map(|(what, _)| format!("it answered {what}")).collect();
        points.push(Point { point: "what isn't for it, or isn't known, it passes over", faults });
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
        self.publish(ERASURE_COMMANDS.suffix, COMMAND, None, &json!(command).to_string()).await
    }

    /// A command for somebody else, one of a step that nobody knows yet, another type, and noise: with the
    /// commands that must not be answered.
    async fn send_what_is_none_of_its_business(
        &self,
    ) -> Result<Vec<(&'static str, Uuid)>, Failure> {
        let mut foreign = self.command(Step::Fence, Positions::new());
        foreign.participants = vec!["somebody-else".to_owned()];
        self.send(&foreign).await?;
        let unknown = self.command(Step::Fence, Positions::new());
        let mut data: Value = json!(unknown);
        data["step"] = json!("step_of_a_later_version");
        let topic = ERASURE_COMMANDS.suffix;
        self.publish(topic, COMMAND, None, &data.to_string()).await?;
        let other = self.command(Step::Fence, Positions::new());
        let later = "assent.erasure.command.v2";
        self.publish(topic, later, None, &json!(other).to_string()).await?;
        self.publish(topic, COMMAND, None, "noise").await?;
        Ok(vec![
            ("a command for somebody else", foreign.command_id),
            ("a command of a step that it can't know", unknown.command_id),
            ("a record of another type", other.command_id),
        ])
    }

    /// A late event of hers, and how far the topic reaches with it.
    async fn barrier(&self) -> Result<Positions, Failure> {
        let data =
            json!({"channel": "whatsapp", "at": SystemClock.now(), "acted_at": SystemClock.now()});
        self.publish(CONSENT_EVENTS.suffix, CONTACTED, Some(1), &data.to_string()).await?;
        let mut ends = end_offsets(&self.bus, CONSENT_EVENTS).await.map_err(kafka)?;
        ends.retain(|_, end| *end > 0);
        Ok(BTreeMap::from([(self.bus.topic_name(&CONSENT_EVENTS), ends)]))
    }

    async fn publish(
        &self,
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
        self.producer.send(&[record]).await.into_iter().collect::<Result<(), _>>().map_err(kafka)
    }
}

fn kafka(error: impl std::fmt::Display) -> Failure {
    Failure {
        status: Status::Unreachable,
        code: "unreachable".to_owned(),
        message: format!("kafka: {error}"),
    }
}
