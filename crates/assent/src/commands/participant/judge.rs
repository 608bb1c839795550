//! Whether an answer to a command is as agreed, as a pure function. What a saga takes is said by the saga
//! itself, so that rehearsal and deployment agree.

use assent_contracts::erasure::{Ack, Command, Requested, StepStarted};
use assent_erasure::domain::{Command as SagaCommand, Event, Saga};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

/// What arrived at the stand-in.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request, as the path names it.
    pub request_id: String,
    /// The bearer token.
    pub bearer: Option<String>,
    /// The body.
    pub body: Value,
    /// Whether it was told to come again.
    pub put_off: bool,
}

impl Answer {
    /// Whether it says that it answers this command.
    pub fn is_to(&self, command_id: Uuid) -> bool {
        self.body["command_id"] == command_id.to_string()
    }

    /// What it says was done.
    pub fn evidence(&self) -> &Value {
        &self.body["evidence"]
    }

    /// How many pieces it says were touched.
    pub fn touched(&self) -> u64 {
        let counts = self.evidence()["counts"].as_object();
        counts.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }
}

/// What is wrong with this answer to `command`; empty: nothing.
pub fn faults(command: &Command, participant: &str, token: &str, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    if answer.bearer.as_deref() != Some(token) {
        faults.push("it doesn't come with the bearer token that it was given".to_owned());
    }
    if answer.request_id != command.request_id.to_string() {
        faults.push("the path names another request than the command".to_owned());
    }
    let ack: Ack = match serde_json::from_value(answer.body.clone()) {
        Ok(ack) => ack,
        Err(error) => {
            faults.push(format!("the body is no answer: {error}"));
            return faults;
        }
    };
    if ack.participant != participant {
        faults.push(format!("it answers as {:?}", ack.participant));
    }
    if ack.evidence.counts.is_empty() {
        faults.push("the evidence counts nothing: a kind without any has the count 0".to_owned());
    }
    let taken = SagaCommand::Acknowledge { request_id: command.request_id, ack };
    if let Err(refusal) = saga(command).decide(taken, command.at) {
        faults.push(format!("a saga refuses it: {refusal} ({})", refusal.name()));
    }
    faults
}

/// A saga that has issued nothing but this command.
fn saga(command: &Command) -> Saga {
    let Command { command_id, request_id, step, participants, barrier, at, .. } = command.clone();
    let (due, asked) = (Timestamp::MAX, participants.clone());
    Saga::fold(&[
        Event::Requested(Requested { request_id, participants: asked, due, at }),
        Event::StepStarted(StepStarted { request_id, step, command_id, participants, barrier, at }),
    ])
}

#[cfg(test)]
mod tests {
    use assent_contracts::erasure::Step;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "rehearsal";

    fn command(step: Step) -> Command {
        Command {
            command_id: Uuid::from_u128(1),
            request_id: Uuid::from_u128(2),
            subject_id: Uuid::from_u128(3),
            step,
            participants: vec!["crm".to_owned()],
            barrier: [("t".to_owned(), [(3, 7)].into())].into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn answer(command: &Command) -> Answer {
        Answer {
            request_id: command.request_id.to_string(),
            bearer: Some(TOKEN.to_owned()),
            body: json!({
                "command_id": command.command_id, "step": command.step, "participant": "crm",
                "evidence": {"counts": {"people": 0}, "digest": "0".repeat(64), "positions": {}},
            }),
            put_off: false,
        }
    }

    type Change = fn(&mut Answer);

    #[test]
    fn an_answer_that_matches_has_no_fault_and_every_other_is_told() {
        let cases: [(Step, Change, Option<&str>); 13] = [
            (Step::Fence, |_| (), None),
            (Step::Sweep, |_| (), None),
            (Step::Delete, |a| a.body["evidence"]["counts"]["people"] = json!(2), None),
            (Step::Delete, |a| a.body["evidence"]["positions"] = json!({"t": {"3": 7}}), None),
            (
                Step::Delete,
                |a| a.body["evidence"]["positions"] = json!({"t": {"3": 6}}),
                Some("behind_barrier"),
            ),
            (Step::Sweep, |a| a.body["evidence"]["counts"]["people"] = json!(1), Some("not_empty")),
            (Step::Fence, |a| a.bearer = None, Some("bearer token")),
            (Step::Fence, |a| a.request_id = "other".to_owned(), Some("another request")),
            (Step::Fence, |a| a.body["step"] = json!("delete"), Some("wrong_step")),
            (Step::Fence, |a| a.body["participant"] = json!("shop"), Some("as \"shop\"")),
            (Step::Fence, |a| a.body["evidence"]["counts"] = json!({}), Some("counts nothing")),
            (
                Step::Fence,
                |a| a.body["evidence"]["digest"] = json!("+33 6"),
                Some("evidence_invalid"),
            ),
            (Step::Fence, |a| a.body = json!({"ok": true}), Some("no answer")),
        ];
        for (step, change, expected) in cases {
            let command = command(step);
            let mut answer = answer(&command);
            change(&mut answer);
            let faults = faults(&command, "crm", TOKEN, &answer);
            match expected {
                None => assert!(faults.is_empty(), "{faults:?}"),
                Some(part) => {
                    assert!(faults.iter().any(|f| f.contains(part)), "{part}: {faults:?}")
                }
            }
        }
    }
}
