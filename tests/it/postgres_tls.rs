//! Postgres that takes TLS only, a server of the test's own: the whole of Assent works by it with the server
//! verified, and whoever doesn't fit is refused and told why.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use assent_tests::cluster::{Cluster, Ended, SERVICES, Wishes, until};
use assent_tests::harness::{Stores, unique};
use assent_tests::servers::{self, Server};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_road_with_the_server_verified_and_nobody_else_let_in() {
    let dir = std::env::temp_dir().join(unique("assent_postgres_tls"));
    std::fs::create_dir(&dir).unwrap();
    let [ours, other] = ["ours", "other"].map(|name| certificate(&dir, name));
    let server = servers::postgres().await;
    takes_tls_only(&server, &ours).await;

    let verified = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", leaked(&ours.public))];
    let told = |service: &&'static str| verified.map(|(name, value)| (*service, name, value));
    let cluster = Cluster::with(Wishes {
        stores: Some(Stores { postgres: server.superuser(), ..Stores::shared() }),
        environment: SERVICES.iter().flat_map(told).collect(),
        ..Wishes::default()
    })
    .await;
    let (person, _) = cluster.willing().await;
    let sent = cluster.send(&person);
    assert_eq!(sent.status, 0, "{}", sent.text);
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!((erased.status, &erased.json["status"]), (0, &Value::from("completed")));
    // Not one connection of theirs is in the clear.
    let admin =
        PgPoolOptions::new().max_connections(1).connect_with(options(&server)).await.unwrap();
    let (all, encrypted): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE ssl)
         FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE application_name = 'assent'",
    )
    .fetch_one(&admin)
    .await
    .unwrap();
    assert!(all > 0 && all == encrypted, "{encrypted} of {all}");

    // The doctor says what it is, each time.
    let well = cluster.assent_told(&["doctor", "consent"], &verified);
    assert_eq!(well.status, 0, "{}", well.text);
    let elsewhere = cluster.database_url("consent").replace("@127.0.0.1:", "@localhost:");
    let another = [verified[0], ("PGSSLROOTCERT", leaked(&other.public))];
    let misnamed = [&verified[..], &[("ASSENT_CONSENT_DATABASE_URL", elsewhere.as_str())]].concat();
    for (environment, says) in [
        (&another[..], "invalid peer certificate"),
        (&misnamed[..], "not valid for name"),
        (&[("PGSSLMODE", "disable")][..], "no encryption"),
    ] {
        let looked = cluster.assent_told(&["doctor", "consent"], environment);
        assert_eq!(looked.status, 1, "{says}: {}", looked.text);
        let found = database(&looked);
        assert_eq!(found["state"], "wrong", "{says}: {}", looked.text);
        assert!(found["says"].as_str().unwrap().contains(says), "{says}: {found}");
        assert!(found["do"].as_str().unwrap().contains("PGSSLMODE"), "{says}: {found}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// What the doctor found at consent's database.
fn database(looked: &Ended) -> Value {
    let checks = looked.json["checks"].as_array().unwrap_or_else(|| panic!("{}", looked.text));
    let of_database = checks.iter().find(|check| check["check"] == "consent database");
    of_database.unwrap_or_else(|| panic!("{}", looked.text)).clone()
}

/// A certificate for this address, by nobody but itself, and its key.
struct Certificate {
    public: PathBuf,
    key: PathBuf,
}

fn certificate(dir: &Path, name: &str) -> Certificate {
    let settings = dir.join("settings");
    let text = "[req]\ndistinguished_name = nobody\nx509_extensions = server\n[nobody]\n[server]
basicConstraints = critical,CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    std::fs::write(&settings, text).unwrap();
    let made = Certificate {
        public: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    };
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-subj", "/CN=postgres", "-days", "30", "-config"]).arg(&settings);
    openssl.arg("-out").arg(&made.public).arg("-keyout").arg(&made.key);
    let ended = openssl.output().expect("openssl is there: `cargo xtask` looks for it");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    made
}

/// From here on it does, and says that it is who the certificate names.
async fn takes_tls_only(server: &Server, certificate: &Certificate) {
    let data = server.data();
    let rules = data.join("pg_hba.conf");
    let owner = std::fs::metadata(&rules).unwrap().uid();
    for (from, name) in [(&certificate.public, "server.crt"), (&certificate.key, "server.key")] {
        let to = data.join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner), None).unwrap();
    }
    std::fs::write(&rules, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    let admin =
        PgPoolOptions::new().max_connections(1).connect_with(options(server)).await.unwrap();
    for sql in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(sql).execute(&admin).await.unwrap();
    }
    admin.close().await;
    // It reads both in its own time.
    let lets_in =
        async |mode: PgSslMode| match PgConnection::connect_with(&options(server).ssl_mode(mode))
            .await
        {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        };
    until("it speaks TLS, and nothing else", async || {
        lets_in(PgSslMode::Require).await && !lets_in(PgSslMode::Disable).await
    })
    .await;
}

fn options(server: &Server) -> PgConnectOptions {
    format!("{}/postgres", server.superuser()).parse().unwrap()
}

fn leaked(path: &Path) -> &'static str {
    Box::leak(path.display().to_string().into_boxed_str())
}
