//! Screening a list against a running Assent: every kind of row, what a caller may learn, what is
//! kept, and how much may be asked.

use std::os::unix::fs::PermissionsExt as _;

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use serde_json::json;

/// A caller who may screen and may not know who is suppressed or erased.
const MARKETER: (&str, &[&str]) = ("marketer", &["screening:run"]);

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_a_list_has_its_answer_and_nobody_learns_too_much() {
    let mut cluster = Cluster::with(Wishes {
        callers: vec![MARKETER],
        settings: vec![("vault", "screening_rows_per_hour = 40")],
        ..Wishes::default()
    })
    .await;
    let [idle, stopped, suppressed, erased, unknown, stranger] =
        std::array::from_fn(|_| Person::somebody());
    let (willing, _) = cluster.willing().await;
    for person in [&idle, &erased] {
        cluster.import(person).await;
    }
    assert_eq!(cluster.hears(&stopped, "STOP").await, 200, "nobody knows this number");
    let list = cluster.dir.join("optouts.txt");
    std::fs::write(&list, format!("{}\n", suppressed.phone)).unwrap();
    assert_eq!(cluster.assent(&["suppress", list.to_str().unwrap()]).status, 0);
    assert_eq!(
        cluster.assent(&["erase", &erased.phone, "--checked", "called_back", "--wait"]).status,
        0
    );

    // Spellings of a real file: the two columns of the finding stand before its own.
    let path = cluster.dir.join("list.csv");
    let rows = [
        (format!("Willing;{}", willing.phone), "allow;consent_given"),
        (format!("Idle;{}", idle.phone), "deny;no_consent"),
        (format!("Stopped;{}", stopped.phone), "deny;no_consent stopped"),
        (format!("Suppressed;{}", suppressed.phone), "deny;no_consent suppressed"),
        (format!("Erased;{}", erased.phone), "deny;erased"),
        (format!("Unknown;{}", unknown.phone), "deny;no_consent"),
        (format!("\"Again; quoted\";{}", willing.phone.replace("+33", "0")), "deny;duplicate"),
        ("Land line;+33 1 45 67 89 01".to_owned(), "deny;no_consent not_mobile"),
        ("Abroad;+49 151 23456789".to_owned(), "deny;no_consent wrong_country"),
        ("Nothing;".to_owned(), "deny;phone_missing"),
        ("Words;call me".to_owned(), "deny;phone_invalid"),
    ];
    let text: Vec<&str> = rows.iter().map(|(row, _)| row.as_str()).collect();
    std::fs::write(&path, format!("Nom;Tel\n{}\n", text.join("\n"))).unwrap();
    let (out, report) = (cluster.dir.join("out.csv"), cluster.dir.join("report.html"));
    let list = path.to_str().unwrap();
    let screen = ["screen", list, "--country", "FR", "--out", out.to_str().unwrap()];
    let with_report = [&screen[..], &["--report", report.to_str().unwrap(), "--lang", "fr"]];
    let gate = cluster.pool("consent").await;
    until("the gate has heard of the stop and of the idle one's number", async || {
        let stops = "SELECT count(*) FROM gate_rows WHERE stopped_by IS NOT NULL";
        let stops: i64 = sqlx::query_scalar(stops).fetch_one(&gate).await.unwrap();
        stops > 0 && cluster.explain(&idle).json["reasons"] == json!(["no_consent"])
    })
    .await;
    let screened = cluster.assent(&with_report.concat());
    assert_eq!((screened.status, &screened.json["rows"]), (0, &json!(11)), "{}", screened.text);
    assert_eq!(screened.json["allowed"], json!(1), "{}", screened.text);
    let findings: Vec<String> =
        rows.iter().map(|(row, finding)| format!("{finding};{row}")).collect();
    assert_eq!(
        std::fs::read_to_string(&out).unwrap(),
        format!("assent_verdict;assent_reasons;Nom;Tel\n{}\n", findings.join("\n"))
    );
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("<html lang=\"fr\">") && !page.contains("Willing"), "{page}");

    // Who may not know of suppressions can't tell the erased from a stranger.
    let screened = cluster.assent_as(MARKETER.0, &screen);
    assert_eq!(screened.status, 0, "{}", screened.text);
    let out = std::fs::read_to_string(&out).unwrap();
    for name in ["Idle", "Suppressed", "Erased", "Unknown"] {
        let row = out.lines().find(|row| row.contains(name)).unwrap();
        assert!(row.starts_with(&format!("deny;no_consent;{name}")), "{row}");
    }

    // It is on record, and nobody came in by it.
    let (status, record) = cluster.get("vault", "/v1/screenings").await;
    assert_eq!(status, 200, "{record}");
    let last = record["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["caller"], &last["purpose"]), (&json!("marketer"), &json!("marketing")));
    // The row without a number never left the command line.
    assert_eq!(last["rows"], json!(10));
    assert_eq!(last["screening_id"], screened.json["screening_id"]);
    assert_eq!(cluster.subject(&unknown).await, None);
    let explained = cluster.explain(&stranger);
    assert_eq!(explained.json["reasons"], json!(["no_consent"]));

    // The test's own key has asked about 10 rows of the 40 that a caller has in an hour.
    let id = screened.json["screening_id"].clone();
    let screen_rows = async |rows: usize| {
        let body = json!({"screening_id": id, "purpose": "marketing",
                          "channel": "whatsapp", "rows": vec![json!({"phone": idle.phone}); rows]});
        cluster.post("vault", "/v1/screenings", &body, None).await
    };
    assert_eq!(screen_rows(31).await.1["code"], json!("rate_limited"));
    let (status, screened) = screen_rows(30).await;
    assert_eq!((status, screened["rows"].as_array().unwrap().len()), (200, 30), "{screened}");
    assert_eq!(screen_rows(1).await.0, 429);
    assert_eq!(cluster.assent_as(MARKETER.0, &screen).status, 0, "others are not held up");
    let (_, record) = cluster.get("vault", "/v1/screenings").await;
    let under_one_id =
        record["items"].as_array().unwrap().iter().filter(|it| it["screening_id"] == id);
    let callers: Vec<_> = under_one_id.map(|it| (&it["caller"], &it["rows"])).collect();
    assert_eq!(
        callers,
        [(&json!("marketer"), &json!(10)), (&json!("test"), &json!(30))],
        "nobody hides behind another's id"
    );
    let unknown_purpose = cluster.assent(&["screen", list, "--country", "FR", "--purpose", "nope"]);
    assert_eq!(unknown_purpose.status, 2, "{}", unknown_purpose.text);
    let too_little =
        cluster.assent_as(MARKETER.0, &["explain", &idle.phone, "--purpose", "marketing"]);
    assert_eq!(too_little.status, 2, "{}", too_little.text);

    // Without the gate there is no answer, and nothing is counted.
    cluster.kill("consent");
    let body = json!({"screening_id": id, "purpose": "marketing", "channel": "whatsapp",
                      "rows": []});
    let (status, refused) = cluster.post("vault", "/v1/screenings", &body, None).await;
    assert_eq!((status, &refused["code"]), (503, &json!("dependency_unavailable")), "{refused}");
}
