//! Reading a file and an environment, and what is said when it can't be read.

use secrecy::ExposeSecret;

use super::*;

fn settings(text: &str, environment: &[(&str, &str)]) -> Settings {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Settings::from_parts(text, environment).unwrap()
}

#[test]
fn the_environment_wins_over_the_file() {
    let settings = settings(
        "[consent]\nlisten = \"127.0.0.1:1\"\ndatabase_connections = 4",
        &[("ASSENT_CONSENT_LISTEN", "127.0.0.1:2")],
    );
    let section = settings.section("consent");
    let listen: std::net::SocketAddr = section.required("listen").unwrap();
    assert_eq!(listen.port(), 2);
    assert_eq!(section.default("database_connections", 8_u32), 4);
    assert_eq!(settings.finish(), Ok(()));
}

#[test]
fn every_error_is_reported_at_once() {
    let settings = settings(
        "stray = 1\n[consnet]\na = 1\n[consent]\nlisten = \"nowhere\"\nlistne = 3\nmany = [1]",
        &[],
    );
    let section = settings.section("consent");
    assert_eq!(section.required::<std::net::SocketAddr>("listen"), None);
    assert_eq!(section.optional::<u32>("many"), None);
    assert!(section.secret("database_url").is_none());
    let errors = settings.finish().unwrap_err();
    let places: Vec<_> = errors.0.iter().map(|error| error.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "[consnet]",
            "consent.database_url",
            "consent.listen",
            "consent.listne",
            "consent.many",
            "stray"
        ]
    );
    assert!(errors.to_string().contains("ASSENT_CONSENT_DATABASE_URL"));
}

#[test]
fn sections_of_other_services_are_left_alone() {
    let settings = settings("[vault]\nkek_file = \"/k\"\n[lease]\nlength_ms = 500", &[]);
    let terms = crate::LeaseTerms::read(&settings);
    assert_eq!(terms.length, Duration::from_millis(500));
    assert_eq!(settings.finish(), Ok(()));
}

#[test]
fn a_secret_may_come_from_a_file_and_is_never_printed() {
    let path = std::env::temp_dir().join(format!("assent-secret-{}", std::process::id()));
    std::fs::write(&path, "hush\n").unwrap();
    let settings =
        settings("[services]\n", &[("ASSENT_SERVICES_TOKEN_FILE", path.to_str().unwrap())]);
    let secret = settings.section("services").secret("token").unwrap();
    assert_eq!(secret.expose_secret(), "hush");
    assert!(!format!("{secret:?}").contains("hush"));
    std::fs::remove_file(path).unwrap();

    let broken = Settings::from_parts("[services]\ntoken = hush", []).unwrap_err();
    assert!(!broken.to_string().contains("hush"));
}

#[test]
fn an_empty_secret_is_none() {
    let path = std::env::temp_dir().join(format!("assent-no-secret-{}", std::process::id()));
    std::fs::write(&path, "\n").unwrap();
    let text = format!("[services]\nfirst = \" \"\nsecond_file = {path:?}\n");
    let settings = settings(&text, &[]);
    let section = settings.section("services");
    assert!(section.optional_secret("first").is_none());
    assert!(section.optional_secret("second").is_none());
    assert!(section.secret("first").is_none());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn how_a_value_was_asked_for_is_known() {
    let settings = settings("", &[]);
    let section = settings.section("lease");
    let _ = section.millis("length_ms", Duration::from_secs(1));
    let _ = section.optional::<u32>("length_ms");
    let _ = section.optional_secret("token");
    let _ = section.required::<String>("name");
    let text = |text: &str| text.to_owned();
    assert_eq!(
        settings.asked()["lease"],
        BTreeMap::from([
            (text("length_ms"), Presence::Default(text("1000"))),
            (text("name"), Presence::Required),
            (text("token"), Presence::Optional),
            (text("token_file"), Presence::Optional),
        ])
    );
}
