//! People under several names, against a running Assent: known by a user id alone, and two who turn out to be one.

use serde_json::{Value, json};

use assent_tests::cluster::{Cluster, Ended, TEMPLATE, until};

impl Named for Cluster {
    async fn hears_from(&self, names: Value, text: &str) {
        let mut body = json!({"text": text});
        body.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        let (status, answer) = self.post("whatsapp-sim", "/_sim/inbound", &body, None).await;
        assert_eq!(status, 200, "{answer}");
    }

    fn send_to(&self, name: &str) -> Ended {
        self.assent(&["send", name, "--purpose", "marketing", "--template", TEMPLATE])
    }

    fn reasons_of(&self, name: &str) -> Value {
        self.assent(&["explain", name, "--purpose", "marketing"]).json["reasons"].clone()
    }
}

trait Named {
    /// A message from somebody with these names.
    async fn hears_from(&self, names: Value, text: &str);
    /// One message by the command line, with its outcome.
    fn send_to(&self, name: &str) -> Ended;
    /// The verdict's reasons.
    fn reasons_of(&self, name: &str) -> Value;
}

fn refused_for(ended: &Ended, reason: &str) {
    assert_eq!((ended.status, &ended.json["state"]), (1, &json!("refused")), "{}", ended.text);
    assert!(ended.json["reasons"].as_array().unwrap().contains(&json!(reason)), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_known_by_her_user_id_alone_is_written_to_stops_and_stays_erased() {
    const HER: &str = "FR.90000000000000000001";
    let cluster = Cluster::start().await;
    let hers = || json!({"user_id": HER});
    cluster.hears_from(hers(), "START").await;
    until("she has agreed", async || cluster.reasons_of(HER) == json!(["consent_given"])).await;
    let sent = cluster.send_to(HER);
    assert_eq!((sent.status, &sent.json["state"]), (0, &json!("accepted")), "{}", sent.text);
    let (_, messages) = cluster.get("whatsapp-sim", "/_sim/messages").await;
    let messages = messages["messages"].as_array().unwrap();
    let to_her = messages.iter().filter(|it| it["template"] == TEMPLATE);
    let to_her: Vec<&Value> = to_her.collect();
    assert_eq!((to_her.len(), &to_her[0]["user_id"]), (1, &json!(HER)), "{to_her:?}");

    cluster.hears_from(hers(), "STOP").await;
    // Until the gate has found her a task may hold what is sent to her.
    let pool = cluster.pool("messaging").await;
    until("the stop has arrived", async || {
        let open = "SELECT count(*) FROM declarations WHERE settled_at IS NULL";
        sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
    refused_for(&cluster.send_to(HER), "stopped");

    let erased = cluster.assent(&["erase", HER, "--checked", "test", "--wait"]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
    refused_for(&cluster.send_to(HER), "erased");
    // She writes, and agrees to nothing: she stays a stranger.
    cluster.hears_from(hers(), "hello").await;
    until("it is processed", async || {
        let waiting = "SELECT count(*) FROM webhook_bodies WHERE parked IS NULL";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
    refused_for(&cluster.send_to(HER), "erased");
    // Her own act is a new relation.
    cluster.hears_from(hers(), "START").await;
    until("she is somebody new", async || cluster.reasons_of(HER) == json!(["consent_given"]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_turn_out_to_be_one_are_stopped_as_one_and_agree_each_by_name() {
    const HER: &str = "FR.90000000000000000002";
    let cluster = Cluster::start().await;
    let (person, by_number) = cluster.willing().await;
    cluster.hears_from(json!({"user_id": HER}), "START").await;
    until("she has agreed", async || cluster.reasons_of(HER) == json!(["consent_given"])).await;
    // WhatsApp names her by both.
    let both = || json!({"from": person.phone, "user_id": HER});
    cluster.hears_from(both(), "hello").await;
    let path = format!("/v1/subjects/{by_number}");
    until("they are linked", async || {
        let linked = cluster.get("vault", &path).await.1["linked"].clone();
        linked.as_array().is_some_and(|it| it.len() == 1)
    })
    .await;
    assert_eq!(cluster.reasons_of(HER), json!(["consent_given"]), "nothing is lost by it");
    for name in [HER, &person.phone] {
        assert_eq!(cluster.send_to(name).status, 0);
    }

    cluster.hears_from(json!({"user_id": HER}), "STOP").await;
    until("both are stopped", async || {
        let stopped = |name: &str| {
            let reasons = cluster.reasons_of(name);
            reasons.as_array().is_some_and(|it| it.contains(&json!("stopped")))
        };
        stopped(HER) && stopped(&person.phone)
    })
    .await;
    for name in [HER, &person.phone] {
        refused_for(&cluster.send_to(name), "stopped");
    }

    // By one name she speaks for one of them, and who is one with her still says no.
    cluster.hears_from(json!({"user_id": HER}), "START").await;
    let only = json!(["linked_subject_denies"]);
    until("she has agreed by that name", async || cluster.reasons_of(HER) == only).await;
    refused_for(&cluster.send_to(HER), "linked_subject_denies");
    refused_for(&cluster.send_to(&person.phone), "consent_withdrawn");
    cluster.hears_from(both(), "START").await;
    until("both have agreed", async || {
        let agreed = json!(["consent_given"]);
        cluster.reasons_of(HER) == agreed && cluster.reasons_of(&person.phone) == agreed
    })
    .await;
}

/// WhatsApp named two in one breath who were two: it shows as a doubt, an operator says so, and both are written to
/// again, each for herself.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_link_is_met_as_a_doubt_taken_back_and_both_are_written_to_again() {
    const HIS: &str = "FR.90000000000000000003";
    const HER: &str = "FR.90000000000000000004";
    let cluster = Cluster::start().await;
    let (her, her_id) = cluster.willing().await;
    cluster.hears_from(json!({"user_id": HIS}), "START").await;
    until("he has agreed", async || cluster.reasons_of(HIS) == json!(["consent_given"])).await;
    let path = format!("/v1/subjects/{her_id}");
    let linked = async || {
        let linked = cluster.get("vault", &path).await.1["linked"].clone();
        linked.as_array().map_or(0, Vec::len)
    };
    let doubts = async |which: &str| {
        let tasks = cluster.get("messaging", &format!("/v1/tasks{which}")).await.1;
        let items = tasks["items"].as_array().unwrap().clone();
        items.into_iter().filter(|it| it["kind"] == "identity_in_doubt").collect::<Vec<_>>()
    };
    let by = |user_id: &str| json!({"from": her.phone, "user_id": user_id});

    // Her number with his user id; then with her own.
    cluster.hears_from(by(HIS), "hello").await;
    until("they are linked", async || linked().await == 1).await;
    cluster.hears_from(by(HER), "hello").await;
    until("it is in doubt who she is", async || !doubts("").await.is_empty()).await;
    let open = doubts("").await;
    assert_eq!((open.len(), &open[0]["reason"]), (1, &json!("another_account")), "{open:?}");
    assert_eq!(open[0]["subject_id"], json!(her_id));
    for name in [HIS, &her.phone] {
        refused_for(&cluster.send_to(name), "identity_changed");
    }

    let trusted = json!({"subject_id": her_id, "reason": "two_people"});
    let (status, answer) = cluster.post("messaging", "/v1/sender/trust", &trusted, None).await;
    assert_eq!((status, &answer["lifted"]), (200, &json!(true)), "{answer}");
    assert_eq!(linked().await, 0);
    assert!(doubts("").await.is_empty());
    let closed = doubts("?closed=true").await;
    assert_eq!((closed.len(), &closed[0]["closed_reason"]), (1, &json!("two_people")));
    for name in [HIS, &her.phone] {
        let sent = cluster.send_to(name);
        assert_eq!((sent.status, &sent.json["state"]), (0, &json!("accepted")), "{}", sent.text);
    }

    // Her own user id is hers from now on; the provider says when in whole seconds, so perhaps not at once.
    until("her user id is learnt", async || {
        cluster.hears_from(by(HER), "hello").await;
        cluster.reasons_of(HER) == json!(["consent_given"])
    })
    .await;
    assert_eq!(linked().await, 0);
    // A doubt about her holds up nothing of his.
    cluster.hears_from(by("FR.90000000000000000005"), "hello").await;
    until("she is in doubt again", async || !doubts("").await.is_empty()).await;
    refused_for(&cluster.send_to(&her.phone), "identity_changed");
    assert_eq!(cluster.send_to(HIS).json["state"], "accepted");
}
