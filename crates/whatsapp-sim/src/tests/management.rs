//! Profile, numbers, blocking, webhook registration, read marks.

use super::*;

#[tokio::test]
async fn the_profile_is_read_and_updated_within_metas_limits() {
    let rig = rig().await;
    let path = "/1065/whatsapp_business_profile";
    let update = json!({"messaging_product": "whatsapp", "about": "Bread", "vertical": "GROCERY",
        "websites": "[\"https://shop.example\"]"});
    assert_eq!(rig.graph("POST", path, Some(update)).await.1, json!({"success": true}));
    let (_, profile) =
        rig.graph("GET", &format!("{path}?fields=about,vertical,websites"), None).await;
    assert_eq!(
        profile["data"],
        json!([{"messaging_product": "whatsapp", "about": "Bread", "vertical": "GROCERY",
            "websites": ["https://shop.example"]}])
    );
    for (field, value) in [
        ("about", json!("x".repeat(140))),
        ("vertical", json!("PIRACY")),
        ("email", json!("nowhere")),
    ] {
        let update = json!({"messaging_product": "whatsapp", field: value});
        let (status, answer) = rig.graph("POST", path, Some(update)).await;
        assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(100)), "{field}");
    }
}

#[tokio::test]
async fn the_number_shows_its_quality_and_tier_and_changes_are_told() {
    let rig = rig_with(|options| options.limits.people_per_day = Some(250)).await;
    let (_, numbers) = rig.graph("GET", "/1022/phone_numbers", None).await;
    assert_eq!(numbers["data"][0]["id"], "1065");
    let fields = "fields=quality_rating,status,whatsapp_business_manager_messaging_limit";
    let (_, number) = rig.graph("GET", &format!("/1065?{fields}"), None).await;
    assert_eq!(
        number,
        json!({"id": "1065", "quality_rating": "GREEN", "status": "CONNECTED",
            "whatsapp_business_manager_messaging_limit": "TIER_250"})
    );
    let limits = json!({"people_per_day": 2_000});
    rig.client.put(format!("{}/_sim/limits", rig.sim)).json(&limits).send().await.unwrap();
    rig.post("/_sim/number", &json!({"quality": "red", "status": "flagged"})).await;
    let (_, number) = rig.graph("GET", &format!("/1065?{fields}"), None).await;
    assert_eq!(number["whatsapp_business_manager_messaging_limit"], "TIER_2K");
    assert_eq!((&number["quality_rating"], &number["status"]), (&json!("RED"), &json!("FLAGGED")));
    let told = rig.heard_of("phone_number_quality_update");
    let events: Vec<&Value> = told.iter().map(|it| &value(it)["event"]).collect();
    assert_eq!(events, ["UPGRADE", "FLAGGED"]);
    assert_eq!(rig.heard_of("business_capability_update").len(), 1);
}

#[tokio::test]
async fn a_number_that_is_not_registered_sends_nothing_and_its_pin_opens_it() {
    let rig = rig().await;
    let register = |pin: &str| Some(json!({"messaging_product": "whatsapp", "pin": pin}));
    assert_eq!(rig.graph("POST", "/1065/register", register("150954")).await.0, 200);
    assert_eq!(rig.graph("POST", "/1065/deregister", None).await.0, 200);
    assert_eq!(rig.send(&template()).await.unwrap().1["error"]["code"], 133_010);
    let (_, wrong) = rig.graph("POST", "/1065/register", register("000000")).await;
    assert_eq!(wrong["error"]["code"], 133_005);
    assert_eq!(rig.graph("POST", "/1065/register", register("150954")).await.0, 200);
    assert_eq!(rig.send(&template()).await.unwrap().0, 200);
}

#[tokio::test]
async fn only_who_wrote_today_can_be_blocked_and_each_fails_for_herself() {
    let rig = rig().await;
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    let users = |users: &[&str]| {
        let users: Vec<Value> = users.iter().map(|user| json!({"user": user})).collect();
        Some(json!({"messaging_product": "whatsapp", "block_users": users}))
    };
    let (status, mixed) =
        rig.graph("POST", "/1065/block_users", users(&["+33612345678", "+33699999999"])).await;
    assert_eq!((status, mixed["error"]["code"].as_i64()), (400, Some(139_100)));
    let blocked = &mixed["block_users"];
    assert_eq!(blocked["added_users"], json!([{"input": "+33612345678", "wa_id": "33612345678"}]));
    assert_eq!(blocked["failed_users"][0]["errors"][0]["code"], 131_047);

    let (_, list) = rig.graph("GET", "/1065/block_users", None).await;
    assert_eq!(list["data"][0]["wa_id"], "33612345678");
    let inbound = json!({"from": "33612345678", "text": "hello?"});
    assert_eq!(rig.post("/_sim/inbound", &inbound).await.0, 400, "she can't write");
    rig.send(&template()).await.unwrap();
    let failed = rig.hears(|body| is_status(body, "failed")).await;
    assert_eq!(value(&failed)["statuses"][0]["errors"][0]["code"], 131_026);
    assert_eq!(rig.violations().await, json!({"to_blocked": 1}));

    let (_, removed) = rig.graph("DELETE", "/1065/block_users", users(&["33612345678"])).await;
    assert_eq!(removed["block_users"]["removed_users"][0]["wa_id"], "33612345678");
    assert_eq!(rig.post("/_sim/inbound", &inbound).await.0, 200);
}

/// Another receiver, which accepts this verify token.
async fn receiver(token: &'static str) -> (String, Heard) {
    let heard = Heard::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/other", listener.local_addr().unwrap());
    let challenge = async move |Query(query): Query<std::collections::HashMap<String, String>>| {
        if query["hub.verify_token"] == token {
            (StatusCode::OK, query["hub.challenge"].clone())
        } else {
            (StatusCode::FORBIDDEN, String::new())
        }
    };
    let app = Router::new().route("/other", get(challenge).post(hear)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, heard)
}

#[tokio::test]
async fn a_number_overrides_its_account_which_overrides_the_app() {
    let rig = rig().await;
    let (account, account_heard) = receiver("account").await;
    let (number, number_heard) = receiver("number").await;
    let write = async || {
        let message = json!({"from": "33612345678", "text": "hi"});
        assert_eq!(rig.post("/_sim/inbound", &message).await.0, 200);
        [&rig.heard, &account_heard, &number_heard].map(|it| it.0.lock().unwrap().bodies.len())
    };
    assert_eq!(write().await, [1, 0, 0]);
    let over =
        |url: &str, token: &str| json!({"override_callback_uri": url, "verify_token": token});
    let wrong = rig.graph("POST", "/1022/subscribed_apps", Some(over(&account, "wrong"))).await;
    assert_eq!((wrong.0, wrong.1["error"]["error_subcode"].as_i64()), (400, Some(2_200)));
    rig.graph("POST", "/1022/subscribed_apps", Some(over(&account, "account"))).await;
    assert_eq!(write().await, [1, 1, 0]);
    let configuration = json!({"webhook_configuration": over(&number, "number")});
    assert_eq!(rig.graph("POST", "/1065/", Some(configuration)).await.0, 200);
    assert_eq!(write().await, [1, 1, 1]);

    let (_, shown) = rig.graph("GET", "/1065?fields=webhook_configuration", None).await;
    assert_eq!(shown["webhook_configuration"]["phone_number"], number);
    assert_eq!(shown["webhook_configuration"]["whatsapp_business_account"], account);
    let (_, apps) = rig.graph("GET", "/1022/subscribed_apps", None).await;
    assert_eq!(apps["data"][0]["override_callback_uri"], account);
    // Only messages are overridden.
    let change = json!({"quality": "yellow"});
    rig.post("/_sim/number", &change).await;
    assert_eq!(rig.heard_of("phone_number_quality_update").len(), 1);

    let off = json!({"webhook_configuration": {"override_callback_uri": ""}});
    rig.graph("POST", "/1065", Some(off)).await;
    rig.graph("POST", "/1022/subscribed_apps", None).await;
    assert_eq!(write().await, [3, 1, 1]);
}

#[tokio::test]
async fn an_app_sets_its_callback_and_hears_only_the_fields_it_named() {
    let rig = rig().await;
    let (url, heard) = receiver("mine").await;
    let (_, token) = rig
        .graph(
            "GET",
            "/oauth/access_token?grant_type=client_credentials&client_id=6708&client_secret=secret",
            None,
        )
        .await;
    let token = token["access_token"].as_str().unwrap().replace('|', "%7C");
    let path = format!(
        "/6708/subscriptions?object=whatsapp_business_account&callback_url={url}&verify_token=mine&fields=messages&access_token={token}"
    );
    assert_eq!(rig.graph("POST", &path, None).await.1, json!({"success": true}));
    rig.post("/_sim/number", &json!({"quality": "yellow"})).await;
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    let fields: Vec<Value> =
        heard.0.lock().unwrap().bodies.iter().map(|body| change(body)["field"].clone()).collect();
    assert_eq!(fields, ["messages"]);
}

#[tokio::test]
async fn a_read_mark_marks_and_sends_nothing() {
    let rig = rig().await;
    let (_, written) =
        rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    let mark = json!({"messaging_product": "whatsapp", "status": "read", "message_id": written["id"],
        "typing_indicator": {"type": "text"}});
    assert_eq!(rig.send(&mark).await.unwrap(), (200, json!({"success": true})));
    let seen = rig.messages().await;
    assert_eq!(
        (&seen["inbound"][0]["read"], &seen["messages"][0]["type"]),
        (&json!(true), &json!("read"))
    );
    assert_eq!(seen["messages"][0]["wamid"], Value::Null);
    let unknown =
        json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x"});
    assert_eq!(rig.send(&unknown).await.unwrap().1["error"]["code"], 100);
}
