//! The erasure of one purpose's data on the command line, against a running Assent: what belongs to it is gone and stays
//! gone, the other purpose goes on, and the whole person can be erased afterwards.

use serde_json::{Value, json};
use sqlx::PgPool;

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, until};

/// How many rows a statement counts for her.
async fn count(pool: &PgPool, statement: &'static str, subject: &str) -> i64 {
    sqlx::query_scalar(statement).bind(subject).fetch_one(pool).await.unwrap()
}

/// What the read model shows of her messages, by purpose.
async fn shown(cluster: &Cluster, subject: &str) -> Vec<String> {
    let (_, answer) = cluster.get("projector", &format!("/v1/messages?subject_id={subject}")).await;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let purposes = items.iter().filter_map(|it| it["purpose"].as_str().map(str::to_owned));
    let mut purposes: Vec<String> = purposes.collect();
    purposes.sort();
    purposes
}

async fn answer_her(cluster: &Cluster, subject: &str) -> Value {
    let body = json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp",
        "content": {"type": "text", "body": "We open at nine."}});
    let (status, answer) = cluster.post("messaging", "/v1/messages", &body, None).await;
    assert_eq!(status, 202, "{answer}");
    cluster.settled(answer["message_id"].as_str().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_purposes_data_go_and_stay_gone_while_the_other_purpose_goes_on() {
    const MARKETING: &str =
        "SELECT count(*) FROM intents WHERE subject_id = $1::uuid AND purpose = 'marketing'";
    const SERVICE: &str =
        "SELECT count(*) FROM intents WHERE subject_id = $1::uuid AND purpose = 'service'";
    let mut cluster = Cluster::start().await;
    let (person, subject) = cluster.willing().await;
    let service = ["--purpose", "service", "--channel", "whatsapp", "--evidence", "form 12"];
    let granted = cluster.assent(&[&["consent", "grant", &person.phone][..], &service].concat());
    assert_eq!(granted.status, 0, "{}", granted.text);
    assert_eq!(cluster.hears(&person, "when do you open?").await, 200);
    let pool = cluster.pool("messaging").await;
    until("what she wrote has arrived", async || {
        let heard = "SELECT count(*) FROM inbound_messages WHERE subject_id = $1::uuid";
        count(&pool, heard, &subject).await == 1
    })
    .await;
    assert_eq!(cluster.send(&person).status, 0);
    assert_eq!(answer_her(&cluster, &subject).await["state"], "accepted");
    until("the read model shows both", async || {
        shown(&cluster, &subject).await == ["marketing", "service"]
    })
    .await;

    let file = cluster.dir.join("purpose.jws");
    let path = file.to_str().unwrap();
    let erased = cluster.assent(&[
        "erase",
        &person.phone,
        "--checked",
        "called_back",
        "--purpose",
        "marketing",
        "--wait",
        "--certificate",
        path,
    ]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
    assert_eq!(erased.json["purpose"], "marketing");

    // What belonged to it is gone; the other purpose's, and she herself, are there.
    assert_eq!(count(&pool, MARKETING, &subject).await, 0);
    assert_eq!(count(&pool, SERVICE, &subject).await, 1);
    assert_eq!(shown(&cluster, &subject).await, ["service"]);
    assert_eq!(cluster.subject(&person).await.as_deref(), Some(&*subject), "she is known");
    // Nothing is sent for it any more, and under the other purpose all goes on.
    let explained = cluster.explain(&person);
    assert_eq!(explained.json["reasons"], json!(["consent_withdrawn"]), "{}", explained.text);
    let sent = cluster.send(&person);
    assert_eq!((sent.status, &sent.json["state"]), (1, &json!("refused")), "{}", sent.text);
    assert_eq!(answer_her(&cluster, &subject).await["state"], "accepted");
    assert_eq!(cluster.delivered_to(&person).await.len(), 1, "the one of before");

    // The certificate says which data, that no key was destroyed, and what is kept.
    let key = cluster.public_key();
    let verified = cluster.assent(&["verify", path, "--key", key.to_str().unwrap()]);
    assert_eq!((verified.status, &verified.json["valid"]), (0, &json!(true)), "{}", verified.text);
    let certificate = &verified.json["certificate"];
    assert_eq!(certificate["purpose"], "marketing");
    assert_eq!(certificate["keys_destroyed_at"], Value::Null);
    let kept: Vec<&str> = certificate["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| kept["what"].as_str().unwrap())
        .collect();
    for what in ["consent_proof", "contact_data", "message_log"] {
        assert!(kept.contains(&what), "{what}: {kept:?}");
    }
    let delete = certificate["steps"].as_array().unwrap().iter().find(|it| it["step"] == "delete");
    let messaging = &delete.unwrap()["participants"]["messaging"]["evidence"]["counts"];
    assert_eq!(messaging["intents"], 1, "{messaging}");

    // A read model that is built from the log anew doesn't bring the message back: what it shows of the purpose is the
    // refused one of after.
    let after = ["marketing", "service", "service"];
    until("the read model shows what came after", async || {
        shown(&cluster, &subject).await == after
    })
    .await;
    cluster.rebuilt_the_same("messages");
    assert_eq!(shown(&cluster, &subject).await, after);

    // A database of before the erasure, as a restored backup is: the erasure is done again before anything is answered, also
    // where the backup was made while a message was being called. Whoever would say how that ended begins later.
    cluster.kill("messaging");
    let again = "
        WITH forgotten AS (DELETE FROM participant.purpose_commands)
        INSERT INTO intents
            (id, subject_id, purpose, channel, template, state, requested_at, changed_at, claim_id,
             claim_until)
        VALUES (gen_random_uuid(), $1::uuid, 'marketing', 'whatsapp', 'hello', 'calling',
                now() - interval '1 day', now(), gen_random_uuid(), now() - interval '1 hour')";
    sqlx::query(again).bind(&subject).execute(&pool).await.unwrap();
    assert_eq!(count(&pool, MARKETING, &subject).await, 2, "it is back, beside the refused one");
    cluster.restart("messaging").await;
    assert_eq!(count(&pool, MARKETING, &subject).await, 1, "and gone again");
    let redone: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM participant.purpose_commands WHERE redone_at IS NOT NULL",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(redone, 3, "fence, delete, sweep");

    // Nor does a read model of before it take the message from the log again: it has not heard of it when the erasure is done
    // again, and reads of it afterwards.
    cluster.kill("projector");
    let forgotten = "
        WITH commands AS (DELETE FROM participant.purpose_commands),
             messages AS (DELETE FROM erased_messages)
        DELETE FROM erased_purposes";
    sqlx::query(forgotten).execute(&cluster.pool("projector").await).await.unwrap();
    cluster.restart("projector").await;
    assert_eq!(shown(&cluster, &subject).await, after);
    cluster.rebuilt_the_same("messages");
    assert_eq!(shown(&cluster, &subject).await, after);

    // She may agree again; and the whole person can be erased.
    assert_eq!(cluster.grant(&person).status, 0);
    assert_eq!(cluster.explain(&person).json["verdict"], "allow");
    whole(&cluster, &person);
    let left = "
        SELECT (SELECT count(*) FROM erased_messages WHERE subject_id = $1::uuid)
             + (SELECT count(*) FROM erased_purposes WHERE subject_id = $1::uuid)";
    assert_eq!(count(&cluster.pool("projector").await, left, &subject).await, 0);
}

fn whole(cluster: &Cluster, person: &Person) {
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
}
