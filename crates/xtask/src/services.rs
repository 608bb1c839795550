//! Assent's own processes: their configuration, their ports, how each is started.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::{At, Result};
use crate::ports::Ports;
use crate::process::Process;
use crate::secrets::Secrets;
use crate::workspace::{Home, write_private};

/// The services in the order in which they are started; the gateway is the one door to them.
pub const SERVICES: [&str; 7] =
    ["consent", "vault", "messaging", "erasure", "projector", "console", "gateway"];

/// The stand-in for WhatsApp.
pub const SIMULATOR: &str = "whatsapp-sim";

/// The databases, each the property of one service.
pub const DATABASES: [&str; 7] =
    ["consent", "vault", "vault_keys", "messaging", "messaging_keys", "erasure", "projector"];

/// An address book of one cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addresses {
    /// Postgres.
    pub postgres: u16,
    /// Kafka's clients.
    pub kafka: u16,
    /// Kafka's controller.
    pub kafka_controller: u16,
    /// API port by service, the simulator included.
    pub api: BTreeMap<String, u16>,
    /// Probes and metrics port by service.
    pub ops: BTreeMap<String, u16>,
}

impl Addresses {
    /// The documented defaults, moved where taken.
    pub fn documented(ports: &mut Ports) -> Addresses {
        let (mut api, mut ops) = (BTreeMap::new(), BTreeMap::new());
        for (name, port) in [
            ("gateway", 7100),
            ("consent", 7101),
            ("vault", 7102),
            ("messaging", 7103),
            ("erasure", 7104),
            ("projector", 7105),
            ("console", 7106),
        ] {
            api.insert(name.to_owned(), ports.from(port));
            ops.insert(name.to_owned(), ports.from(port + 100));
        }
        api.insert(SIMULATOR.to_owned(), ports.from(7110));
        Addresses {
            postgres: ports.from(7132),
            kafka: ports.from(7192),
            kafka_controller: ports.from(7193),
            api,
            ops,
        }
    }

    /// The address of a service's API.
    #[must_use]
    pub fn url(&self, service: &str) -> String {
        format!("http://127.0.0.1:{}", self.api[service])
    }

    /// The address of a database.
    #[must_use]
    pub fn database_url(&self, secrets: &Secrets, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/assent_{database}",
            secrets.postgres_password, self.postgres
        )
    }
}

/// Where the two binaries of one build are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The folder of `assent` and `whatsapp-sim`.
    pub dir: PathBuf,
}

/// Writes the services' configuration.
pub fn configure(home: &Home, secrets: &Secrets, addresses: &Addresses) -> Result<PathBuf> {
    let path = home.path("assent.toml");
    write_private(&path, &settings(home, secrets, addresses))?;
    Ok(path)
}

fn settings(home: &Home, secrets: &Secrets, addresses: &Addresses) -> String {
    let keys = home.path("keys");
    let key = |name: &str| keys.join(name).display().to_string();
    let mut text = format!(
        "# Written by `cargo xtask up`; made anew on every start.
[kafka]
brokers = \"127.0.0.1:{}\"
topic_prefix = \"assent.\"

[auth]
keys_file = \"{}\"

[controller]
name = \"Boulangerie Exemple SARL\"
country = \"FR\"

[services]
",
        addresses.kafka,
        key("callers.toml")
    );
    for service in ["consent", "vault", "messaging", "erasure", "projector"] {
        let _ = writeln!(text, "{service}_url = \"{}\"", addresses.url(service));
    }
    let _ = writeln!(text, "public_url = \"{}\"", addresses.url("console"));
    for service in SERVICES {
        let _ = writeln!(
            text,
            "\n[{service}]\nlisten = \"127.0.0.1:{}\"\nops_listen = \"127.0.0.1:{}\"",
            addresses.api[service], addresses.ops[service]
        );
        if service != "gateway" {
            let _ = writeln!(text, "token = \"{}\"", secrets.tokens[service]);
        }
        if DATABASES.contains(&service) {
            let url = addresses.database_url(secrets, service);
            let _ = writeln!(text, "database_url = \"{url}\"");
        }
        match service {
            "vault" => {
                let _ = writeln!(
                    text,
                    "keys_database_url = \"{}\"\nkek_file = \"{}\"\nindex_keys_file = \"{}\"",
                    addresses.database_url(secrets, "vault_keys"),
                    key("vault.kek"),
                    key("index.toml")
                );
            }
            "messaging" => {
                let _ = writeln!(
                    text,
                    "keys_database_url = \"{}\"\nkek_file = \"{}\"\nindex_keys_file = \"{}\"
whatsapp_base_url = \"{}\"\nwhatsapp_version = \"v26.0\"\nphone_number = \"+33900000001\"\nphone_number_id = \"106540352242922\"
access_token = \"{}\"\napp_secret = \"{}\"\nverify_token = \"{}\"",
                    addresses.database_url(secrets, "messaging_keys"),
                    key("messaging.kek"),
                    key("index-address.toml"),
                    addresses.url(SIMULATOR),
                    secrets.whatsapp_access_token,
                    secrets.whatsapp_app_secret,
                    secrets.whatsapp_verify_token
                );
            }
            "consent" => {
                let _ = writeln!(
                    text,
                    "signing_key_file = \"{}\"\nlink_key_file = \"{}\"",
                    key("receipts.pem"),
                    key("links.key")
                );
            }
            "console" => {
                let _ = writeln!(
                    text,
                    "whatsapp_number = \"+15550783881\"\nlink_key_file = \"{}\"",
                    key("links.key")
                );
            }
            "erasure" => {
                // A team's service may be called on this machine.
                let _ = writeln!(
                    text,
                    "signing_key_file = \"{}\"\nwebhook_hosts = \"127.0.0.1\"",
                    key("certificates.pem")
                );
            }
            _ => {}
        }
    }
    text
}

/// The command that runs one service, or the simulator.
#[must_use]
pub fn command(
    binaries: &Binaries,
    home: &Home,
    secrets: &Secrets,
    addresses: &Addresses,
    service: &str,
) -> Command {
    if service == SIMULATOR {
        let mut command = Command::new(binaries.dir.join("whatsapp-sim"));
        command
            .args(["--listen", &format!("127.0.0.1:{}", addresses.api[SIMULATOR])])
            .args(["--webhook-url", &format!("{}/webhooks/whatsapp", addresses.url("messaging"))])
            .args(["--phone-number-id", "106540352242922"])
            .env("WHATSAPP_SIM_ACCESS_TOKEN", &secrets.whatsapp_access_token)
            .env("WHATSAPP_SIM_APP_SECRET", &secrets.whatsapp_app_secret)
            .env("WHATSAPP_SIM_VERIFY_TOKEN", &secrets.whatsapp_verify_token);
        return command;
    }
    let mut command = Command::new(binaries.dir.join("assent"));
    command.args(["serve", service]).env("ASSENT_CONFIG", home.path("assent.toml"));
    command
}

/// Starts one service.
pub fn start(
    binaries: &Binaries,
    home: &Home,
    secrets: &Secrets,
    addresses: &Addresses,
    service: &str,
) -> Result<Process> {
    Process::start(&mut command(binaries, home, secrets, addresses, service), &home.log(service))
}

/// Whether the service says that it is ready.
#[must_use]
pub fn is_ready(addresses: &Addresses, service: &str) -> bool {
    let (port, path) = match addresses.ops.get(service) {
        Some(port) => (*port, "/readyz"),
        None => (addresses.api[service], "/_sim/messages"),
    };
    answers_200(port, path)
}

fn answers_200(port: u16, path: &str) -> bool {
    use std::io::{Read, Write};
    use std::time::Duration;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1))
    else {
        return false;
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let mut head = [0; 12];
    stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head.ends_with(b" 200")
}

/// Writes what a shell needs, readable by its owner only.
pub fn write_env(
    home: &Home,
    binaries: &Binaries,
    secrets: &Secrets,
    addresses: &Addresses,
) -> Result<PathBuf> {
    let mut text = format!(
        "# For a shell: . {}\nexport ASSENT_URL={}\nexport ASSENT_KAFKA=127.0.0.1:{}\nexport ASSENT_TOKEN={}\nexport ASSENT_SIM_URL={}\nexport ASSENT_CONSOLE_URL={}\nexport ASSENT_CERTIFICATE_KEY={}\nexport ASSENT_RECEIPT_KEY={}\n",
        home.path("env").display(),
        addresses.url("gateway"),
        addresses.kafka,
        secrets.tokens["operator"],
        addresses.url(SIMULATOR),
        addresses.url("console"),
        home.path("keys").join("certificates.pub.pem").display(),
        home.path("keys").join("receipts.pub.pem").display(),
    );
    for database in DATABASES {
        let _ = writeln!(
            text,
            "export ASSENT_{}_DATABASE_URL={}",
            database.to_uppercase(),
            addresses.database_url(secrets, database)
        );
    }
    let dir = std::fs::canonicalize(&binaries.dir).at(&binaries.dir)?;
    let _ = writeln!(
        text,
        "case \":$PATH:\" in *\":{0}:\"*) ;; *) export PATH=\"{0}:$PATH\" ;; esac",
        dir.display()
    );
    let path = home.path("env");
    write_private(&path, &text)?;
    Ok(path)
}
