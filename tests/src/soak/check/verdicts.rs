//! G3: a question about a moment, with its position, has the answer that it had; after an erasure a fixed one.

use crate::cluster::Cluster;
use serde_json::Value;

use super::Found;
use crate::soak::history::{History, What};

/// Asks every question again.
pub async fn check(cluster: &Cluster, history: &History) -> Found {
    let mut found = Found::default();
    let mut fixed: Option<Value> = None;
    for person in &history.people {
        for act in &person.acts {
            let What::Ask(question, first) = &act.what else { continue };
            let path = "/v1/verdict/as-of";
            let (_, again) = cluster.post("consent", path, question, None).await;
            if person.erased().is_none() {
                found.look(&again == first, || format!("{first} became {again}"));
                continue;
            }
            // The moment is part of the question.
            let mut answer = again;
            answer.as_object_mut().map(|it| it.remove("at"));
            let fixed = fixed.get_or_insert_with(|| answer.clone());
            let sound = answer["verdict"] == "deny" && &answer == fixed;
            found.look(sound, || format!("after an erasure {answer}, elsewhere {fixed}"));
        }
    }
    found
}
