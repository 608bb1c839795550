//! What the provider says that messages cost: kept for each, and told once for each in a campaign's report.

use std::collections::HashMap;

use assent_messaging::config::Campaigns;
use assent_messaging::domain::limits::Prices;
use serde_json::{Value, json};
use uuid::Uuid;

use super::campaigns::{neighbours, people, report, stands, started};
use super::stand_ins::{Home, Provider, Replica, Setup};

const REGULAR: &str =
    r#"{"billable":true,"pricing_model":"PMP","type":"regular","category":"marketing"}"#;
const FREE: &str =
    r#"{"billable":false,"pricing_model":"PMP","type":"free_entry_point","category":"marketing"}"#;

async fn says(replica: &Replica, message: Uuid, status: &str, pricing: Option<&str>) {
    let mut it = json!({"id": format!("wamid.{message}"), "status": status,
        "biz_opaque_callback_data": message});
    if let Some(pricing) = pricing {
        it["pricing"] = serde_json::from_str(pricing).unwrap();
    }
    assert_eq!(replica.webhook(json!({"statuses": [it]})).await, 200);
    replica.processed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_charged_is_told_once_for_each_message_in_whatever_order_it_is_said() {
    let home = Home::new().await;
    let (neighbours, provider) = (neighbours(&home).await, Provider::serve().await);
    let mut setup = Setup::new(neighbours.address, provider.address);
    setup.campaigns = Campaigns {
        prices: Prices::parse("MARKETING 0.0859", "EUR".to_owned()).unwrap(),
        ..Campaigns::default()
    };
    let replica = home.start(&setup).await;
    let people = people(&neighbours, 6);
    let path = started(&replica, "spring").await;
    stands(&replica, &path, "completed").await;
    assert_eq!(report(&replica, &path).await["billed"], json!([]), "nobody has said anything");
    let members = replica.get(&format!("{path}/members?state=started")).await;
    let of: HashMap<Uuid, Uuid> = members["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let id = |key: &str| it[key].as_str().unwrap().parse().unwrap();
            (id("subject_id"), id("message_id"))
        })
        .collect();
    let messages: Vec<Uuid> = people.iter().map(|subject| of[subject]).collect();

    let told: [&[(&str, Option<&str>)]; 6] = [
        // Each status says it, and one comes twice.
        &[
            ("sent", Some(REGULAR)),
            ("delivered", Some(REGULAR)),
            ("delivered", Some(REGULAR)),
            ("read", Some(REGULAR)),
        ],
        // The last word comes first.
        &[("read", Some(FREE)), ("delivered", Some(REGULAR)), ("sent", Some(REGULAR))],
        // What says it is no news any more.
        &[("delivered", None), ("sent", Some(r#"{"type":"regular","category":"MARKETING"}"#))],
        // Not delivered, and failed after it was sent.
        &[("sent", Some(REGULAR))],
        &[("sent", Some(REGULAR)), ("failed", Some(REGULAR))],
        // Nothing is said that can be worked with.
        &[("delivered", Some(r#"{"billable":"perhaps","category":{}}"#)), ("read", Some("7"))],
    ];
    for (message, told) in messages.iter().zip(told) {
        for (status, pricing) in told {
            says(&replica, *message, status, *pricing).await;
        }
    }
    let report = report(&replica, &path).await;
    assert_eq!(
        report["billed"],
        json!([{"category": "marketing", "billable": 2, "free": 1, "total": "0.1718", "currency": "EUR"}])
    );
    assert_eq!(report["estimate"]["total"], "0.5154", "six at most");

    let mut pricing = Vec::new();
    for message in &messages {
        pricing.push(replica.look(*message, 0).await["pricing"].clone());
    }
    let free: Value = serde_json::from_str(
        r#"{"billable":false,"model":"PMP","type":"free_entry_point","category":"marketing"}"#,
    )
    .unwrap();
    assert_eq!(pricing[1], free, "what went furthest counts");
    assert_eq!(pricing[2], json!({"billable": true, "type": "regular", "category": "marketing"}));
    assert_eq!(pricing[5], Value::Null);
    // What came too late to be news moved nothing back.
    assert_eq!(replica.look(messages[2], 0).await["status"], "delivered");
    replica.stop().await;
}
