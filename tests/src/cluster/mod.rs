//! A whole Assent of one test's own: every service a process as in a deployment, the simulator,
//! seven databases, a topic prefix, keys, callers and ports. It guarantees that nothing of it
//! outlives the test but databases and topics; what is true of it is for the tests to say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use assent_bus::{BusConfig, Security};
use assent_http::auth::{SCOPES, key_entry};
use assent_runtime::{Clock as _, SystemClock};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::block_in_place;

use self::client::Client;
use self::faults::Failpoints;
use self::process::Process;
use crate::harness::{Stores, unique};

mod balancer;
pub mod browser;
pub mod client;
pub mod faults;
pub mod person;
pub mod ports;
pub mod process;

/// How long a condition may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the condition holds.
///
/// # Panics
/// When it doesn't within `PATIENCE`.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let give_up = SystemClock.boottime() + PATIENCE;
    while !holds().await {
        assert!(SystemClock.boottime() < give_up, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The simulator's name among the processes.
pub const SIMULATOR: &str = "whatsapp-sim";
/// The services, each a process.
pub const SERVICES: [&str; 7] =
    ["consent", "vault", "messaging", "erasure", "projector", "console", "gateway"];
/// The template that every cluster knows.
pub const TEMPLATE: &str = "spring_offer";

/// The number that people write to.
pub const BUSINESS_NUMBER: &str = "+33900000001";

const PHONE_NUMBER_ID: &str = "106540352242922";

/// The service that a process serves: `consent` for `consent-2`.
fn service_of(name: &str) -> &str {
    name.split_once('-').map_or(name, |(service, _)| service)
}

/// What a test wants otherwise.
#[derive(Default)]
pub struct Wishes {
    /// Services that get a second replica (`consent-2`) behind one address; named twice, a third one (`consent-3`) too.
    pub replicated: Vec<&'static str>,
    /// More lines for the configuration's sections: section, line.
    pub settings: Vec<(&'static str, &'static str)>,
    /// What one process is told otherwise than the others: process, variable, value.
    pub environment: Vec<(&'static str, &'static str, &'static str)>,
    /// Callers with few rights: name, scopes. See [`Cluster::assent_as`].
    pub callers: Vec<(&'static str, &'static [&'static str])>,
    /// All services in one process (`assent serve --all`), named `all`.
    pub one_process: bool,
    /// Only these services are started; none named: all of them.
    pub only: Vec<&'static str>,
    /// Servers of its own; none: the shared ones.
    pub stores: Option<Stores>,
    /// Where traces go: the address of an OTLP collector.
    pub traces: Option<String>,
    /// The folder of another build than the one under test, of which all services are.
    pub build: Option<PathBuf>,
    /// Scopes that it doesn't know.
    pub without_scopes: &'static [&'static str],
}

/// How a command of the command line ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: i32,
    /// What it printed, where that was JSON.
    pub json: Value,
    /// Everything it printed.
    pub text: String,
}

/// A running Assent.
pub struct Cluster {
    /// Its files: configuration, keys, logs.
    pub dir: PathBuf,
    /// Its topics.
    pub bus: BusConfig,
    postgres: String,
    databases: String,
    token: String,
    environment: Vec<(String, &'static str, &'static str)>,
    /// Where each process listens.
    api: BTreeMap<String, u16>,
    ops: BTreeMap<String, u16>,
    /// Where a service with several replicas is found.
    doors: BTreeMap<&'static str, u16>,
    processes: BTreeMap<String, Process>,
    /// Which build a process is of, where it isn't the one under test.
    builds: BTreeMap<String, PathBuf>,
    http: reqwest::Client,
    client: Client,
    kept: bool,
}

impl Cluster {
    /// A cluster as it comes.
    pub async fn start() -> Self {
        Self::with(Wishes::default()).await
    }

    /// A cluster with wishes, ready.
    pub async fn with(wishes: Wishes) -> Self {
        let dir = std::env::temp_dir().join(unique("assent_it"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut doors: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for service in &wishes.replicated {
            let replicas = doors.entry(*service).or_insert_with(|| vec![(*service).to_owned()]);
            replicas.push(format!("{service}-{}", replicas.len() + 1));
        }
        let replicas = doors.values().flat_map(|replicas| &replicas[1..]).cloned();
        let names: Vec<String> = SERVICES.iter().map(ToString::to_string).chain(replicas).collect();
        let mut api: BTreeMap<_, _> =
            names.iter().map(|name| (name.clone(), ports::free())).collect();
        let ops = names.iter().map(|name| (name.clone(), ports::free())).collect();
        api.insert(SIMULATOR.to_owned(), ports::free());
        let Stores { postgres, bus } = wishes.stores.clone().unwrap_or_else(Stores::shared);
        let mut cluster = Self {
            bus,
            postgres,
            databases: unique("it"),
            token: unique("token"),
            environment: wishes
                .environment
                .iter()
                .map(|(process, variable, value)| ((*process).to_owned(), *variable, *value))
                .collect(),
            api,
            ops,
            doors: BTreeMap::new(),
            processes: BTreeMap::new(),
            builds: BTreeMap::new(),
            kept: false,
            client: Client::new("", BTreeMap::new()),
            http: assent_http::client::http_client(Duration::from_secs(2), Duration::from_secs(30))
                .unwrap(),
            dir,
        };
        for (service, replicas) in doors {
            let door = ports::free();
            balancer::serve(door, replicas.iter().map(|name| cluster.api[name]).collect()).await;
            cluster.doors.insert(service, door);
        }
        let urls = cluster.api.keys().map(|name| (name.clone(), cluster.url(name))).collect();
        cluster.client = Client::new(&cluster.token, urls);
        if let Some(build) = &wishes.build {
            cluster.builds = names.iter().map(|name| (name.clone(), build.clone())).collect();
        }
        cluster.configure(&wishes);
        let keys = cluster.dir.join("keys");
        let build = wishes.build.clone().unwrap_or_else(binaries);
        let made =
            cluster.command_of(&build, &["keys", "init", keys.to_str().unwrap()]).output().unwrap();
        assert!(made.status.success(), "keys: {}", String::from_utf8_lossy(&made.stderr));
        let migrate = [&["migrate"], wishes.only.as_slice()].concat();
        let migrated = block_in_place(|| cluster.command_of(&build, &migrate).output()).unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let wanted =
            |name: &String| wishes.only.is_empty() || wishes.only.contains(&service_of(name));
        let names: Vec<String> = names.into_iter().filter(wanted).collect();
        cluster.launch(SIMULATOR);
        if wishes.one_process {
            cluster.launch("all");
        } else {
            names.iter().for_each(|name| cluster.launch(name));
        }
        for name in &names {
            cluster.ready(name).await;
        }
        if !names.iter().any(|name| name == "messaging") {
            return cluster;
        }
        let template = json!({"name": TEMPLATE, "language": "en", "category": "MARKETING"});
        let (status, body) = cluster.post("messaging", "/v1/templates", &template, None).await;
        assert_eq!(status, 201, "{body}");
        cluster
    }

    fn configure(&self, wishes: &Wishes) {
        let known: Vec<&str> =
            SCOPES.into_iter().filter(|scope| !wishes.without_scopes.contains(scope)).collect();
        self.admit(&known, &wishes.callers);
        let keys = self.dir.join("keys");
        let key = |name: &str| keys.join(name).display().to_string();
        let mut sections: BTreeMap<&str, String> = BTreeMap::new();
        let mut kafka = format!(
            "brokers = \"{}\"\ntopic_prefix = \"{}\"\n",
            self.bus.brokers, self.bus.topic_prefix
        );
        if let Security::Tls { authority, user } = &self.bus.security {
            kafka.push_str("security = \"tls\"\n");
            if let Some(authority) = authority {
                let _ = writeln!(kafka, "tls_ca_file = \"{}\"", authority.display());
            }
            if let Some(user) = user {
                let password = self.dir.join("kafka-password");
                std::fs::write(&password, user.password.expose_secret()).unwrap();
                let _ = writeln!(
                    kafka,
                    "sasl_user = \"{}\"\nsasl_password_file = \"{}\"",
                    user.name,
                    password.display()
                );
            }
        }
        sections.insert("kafka", kafka);
        let callers = self.dir.join("callers.toml").display().to_string();
        sections.insert("auth", format!("keys_file = \"{callers}\"\n"));
        sections.insert("controller", "name = \"Test SARL\"\ncountry = \"FR\"\n".to_owned());
        let mut services = String::new();
        for service in SERVICES.iter().filter(|it| !["gateway", "console"].contains(*it)) {
            let _ = writeln!(services, "{service}_url = \"{}\"", self.url(service));
        }
        let _ = writeln!(services, "public_url = \"{}\"", self.url("console"));
        sections.insert("services", services);
        for service in SERVICES {
            let mut text = format!(
                "listen = \"127.0.0.1:{}\"\nops_listen = \"127.0.0.1:{}\"\n",
                self.api[service], self.ops[service]
            );
            if service == "console" {
                let _ = writeln!(
                    text,
                    "token = \"{}\"\nwhatsapp_number = \"{BUSINESS_NUMBER}\"
link_key_file = \"{}\"",
                    self.token_of(service),
                    key("links.key")
                );
            } else if service != "gateway" {
                let url = self.database_url(service);
                let token = self.token_of(service);
                let _ = writeln!(
                    text,
                    "token = \"{token}\"\ndatabase_url = \"{url}\"\ndatabase_connections = 6"
                );
            }
            if let "vault" | "messaging" = service {
                let index = if service == "vault" { "index.toml" } else { "index-address.toml" };
                let _ = writeln!(
                    text,
                    "keys_database_url = \"{}\"\nkek_file = \"{}\"\nindex_keys_file = \"{}\"",
                    self.database_url(&format!("{service}_keys")),
                    key(&format!("{service}.kek")),
                    key(index)
                );
            }
            if service == "messaging" {
                let _ = writeln!(
                    text,
                    "whatsapp_base_url = \"{}\"\nphone_number_id = \"{PHONE_NUMBER_ID}\"
access_token = \"{token}\"\napp_secret = \"{token}\"\nverify_token = \"{token}\"",
                    self.url(SIMULATOR),
                    token = self.token
                );
            }
            if service == "consent" {
                let (signing, links) = (key("receipts.pem"), key("links.key"));
                let _ =
                    writeln!(text, "signing_key_file = \"{signing}\"\nlink_key_file = \"{links}\"");
            }
            if service == "erasure" {
                let _ = writeln!(text, "signing_key_file = \"{}\"", key("certificates.pem"));
            }
            sections.insert(service, text);
        }
        if let Some(collector) = &wishes.traces {
            sections.insert("telemetry", format!("otlp_endpoint = \"{collector}\"\n"));
        }
        for (section, line) in &wishes.settings {
            let text = sections.entry(*section).or_default();
            let _ = writeln!(text, "{line}");
        }
        let text: String =
            sections.iter().map(|(name, text)| format!("[{name}]\n{text}\n")).collect();
        std::fs::write(self.config(), text).unwrap();
    }

    /// Writes who may call: the test and each service, all with these scopes, and `others`.
    fn admit(&self, scopes: &[&str], others: &[(&'static str, &'static [&'static str])]) {
        // Each service answers for itself, so each has a key of its own.
        let mut callers = key_entry("test", &self.token, scopes);
        for service in SERVICES {
            callers.push_str(&key_entry(service, &self.token_of(service), scopes));
        }
        for (name, scopes) in others {
            callers.push_str(&key_entry(name, &self.token_of(name), scopes));
        }
        std::fs::write(self.dir.join("callers.toml"), callers).unwrap();
    }

    /// Gives every caller the scopes of the build under test, for whoever is started from now on.
    pub fn admit_to_everything(&self) {
        self.admit(&SCOPES, &[]);
    }

    fn token_of(&self, caller: &str) -> String {
        format!("{}-{caller}", self.token)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("assent.toml")
    }

    /// The address of one of its databases: `consent`, `vault_keys`, ….
    pub fn database_url(&self, name: &str) -> String {
        format!("{}/{}_{name}", self.postgres, self.databases)
    }

    /// The name of one of its databases.
    pub fn database(&self, name: &str) -> String {
        format!("{}_{name}", self.databases)
    }

    /// A connection to one of its databases, for a test's own look.
    pub async fn pool(&self, name: &str) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .connect(&self.database_url(name))
            .await
            .expect("the cluster's database answers")
    }

    /// Where a service, or one process of it (`consent-2`), is found.
    pub fn url(&self, name: &str) -> String {
        let port = self.doors.get(name).unwrap_or_else(|| &self.api[name]);
        format!("http://127.0.0.1:{port}")
    }

    /// The token of a caller who may do everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// The public key of its certificates.
    pub fn public_key(&self) -> PathBuf {
        self.dir.join("keys/certificates.pub.pem")
    }

    /// The failpoints of a process.
    pub fn failpoints(&self, name: &str) -> Failpoints {
        Failpoints::new(&self.dir, name)
    }

    /// A process.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).expect("the process was started")
    }

    /// Sends a signal to a process.
    pub fn signal(&self, name: &str, signal: i32) {
        self.processes[name].signal(signal);
    }

    /// Kills a process with SIGKILL.
    pub fn kill(&mut self, name: &str) {
        self.process(name).kill();
    }

    /// Starts a process again, or for the first time, and waits until it is ready.
    pub async fn restart(&mut self, name: &str) {
        self.begin_again(name);
        self.ready(name).await;
    }

    fn launch(&mut self, name: &str) {
        let mut command = if name == SIMULATOR {
            let webhook = format!("{}/webhooks/whatsapp", self.url("messaging"));
            let mut command = Command::new(binaries().join(SIMULATOR));
            command
                .args(["--listen", &format!("127.0.0.1:{}", self.api[SIMULATOR])])
                .args(["--webhook-url", &webhook])
                .args(["--phone-number-id", PHONE_NUMBER_ID])
                .args(["--statuses", "sent,delivered"]);
            for secret in ["ACCESS_TOKEN", "APP_SECRET", "VERIFY_TOKEN"] {
                command.env(format!("WHATSAPP_SIM_{secret}"), &self.token);
            }
            command
        } else if name == "all" {
            self.command(&["serve", "--all"])
        } else {
            let service = service_of(name);
            let build = self.builds.get(name).cloned().unwrap_or_else(binaries);
            let mut command = self.command_of(&build, &["serve", service]);
            let section = service.to_uppercase();
            let address = |port: u16| format!("127.0.0.1:{port}");
            command.env(format!("ASSENT_{section}_LISTEN"), address(self.api[name]));
            command.env(format!("ASSENT_{section}_OPS_LISTEN"), address(self.ops[name]));
            command
        };
        self.failpoints(name).arm(&mut command);
        // Spans are sent soon: a test waits for them.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "200");
        let own = self.environment.iter().filter(|(process, ..)| process == name);
        command.envs(own.map(|(_, variable, value)| (variable, value)));
        let process = Process::start(command, &self.log(name));
        self.processes.insert(name.to_owned(), process);
    }

    /// Starts a process again that is told one thing otherwise than before, and doesn't wait for it.
    pub fn restart_told(&mut self, name: &str, variable: &'static str, value: &'static str) {
        self.environment.push((name.to_owned(), variable, value));
        self.begin_again(name);
    }

    /// Starts a process again, and doesn't wait for it.
    pub fn begin_again(&mut self, name: &str) {
        self.processes.remove(name);
        self.launch(name);
    }

    /// What a service says when it is asked whether it is ready; nothing when it doesn't answer.
    pub async fn readiness(&self, name: &str) -> String {
        let url = format!("http://127.0.0.1:{}/readyz", self.ops[name]);
        match self.http.get(&url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// What a process tells Prometheus.
    pub async fn metrics(&self, name: &str) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.ops[name]);
        self.http.get(&url).send().await.unwrap().text().await.unwrap()
    }

    /// Whether a service says that it is ready.
    pub async fn is_ready(&self, name: &str) -> bool {
        let url = format!("http://127.0.0.1:{}/readyz", self.ops[name]);
        self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits until a service says that it is ready.
    pub async fn ready(&mut self, name: &str) {
        until(&format!("{name} is ready"), async || {
            let process = if self.processes.contains_key(name) { name } else { "all" };
            let process = self.process(process);
            if let Some(status) = process.ended() {
                panic!("{name} ended with {status}: {}", process.tail());
            }
            self.is_ready(name).await
        })
        .await;
    }

    /// Gives a process the build under test: asked to stop, awaited, started again.
    ///
    /// # Panics
    /// When it doesn't stop by itself.
    pub async fn replace(&mut self, name: &str) {
        let process = self.process(name);
        process.signal(libc::SIGTERM);
        until("it stops", async || process.ended().is_some()).await;
        let status = process.ended();
        assert!(status.is_some_and(|it| it.success()), "{name}: {status:?} {}", process.tail());
        self.builds.remove(name);
        self.restart(name).await;
    }

    /// Brings every database to the build under test, as a deployment does before it replaces anything.
    ///
    /// # Panics
    /// When that fails.
    pub fn migrate(&self) {
        let migrated = block_in_place(|| self.command(&["migrate"]).output()).unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    }

    /// A caller of its APIs.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Leaves its files behind: somebody will want to read the logs.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&binaries(), arguments)
    }

    fn command_of(&self, build: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(build.join("assent"));
        command.args(arguments).env("ASSENT_CONFIG", self.config());
        command
    }

    /// Runs a command of the command line with `--json` and waits for its end.
    pub fn assent(&self, arguments: &[&str]) -> Ended {
        let output = block_in_place(|| self.operator(arguments).output());
        Ended::from(output.unwrap())
    }

    /// As [`Cluster::assent`], in the name of a caller that the test wished for.
    pub fn assent_as(&self, caller: &str, arguments: &[&str]) -> Ended {
        let mut command = self.operator(arguments);
        command.env("ASSENT_TOKEN", self.token_of(caller));
        Ended::from(block_in_place(|| command.output()).unwrap())
    }

    /// As [`Cluster::assent`], with a line on standard input.
    pub fn assent_with_input(&self, arguments: &[&str], line: &str) -> Ended {
        let mut command = self.operator(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = block_in_place(|| {
            let mut child = command.spawn().unwrap();
            // It may end without having read it.
            let typed = format!("{line}\n");
            let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), typed.as_bytes());
            child.wait_with_output()
        });
        Ended::from(ended.unwrap())
    }

    /// As [`Cluster::assent`], told some things otherwise than the configuration says.
    pub fn assent_told(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let mut command = self.operator(arguments);
        command.envs(environment.iter().copied());
        Ended::from(block_in_place(|| command.output()).unwrap())
    }

    /// Starts a command of the command line and doesn't wait for it.
    pub fn begin(&self, arguments: &[&str]) -> Process {
        Process::start(self.operator(arguments), &self.log("operator"))
    }

    fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.arg("--json");
        command.env("ASSENT_URL", self.url("gateway")).env("ASSENT_TOKEN", &self.token);
        command
    }

    /// `POST` to a process with the test's token; the status and the body, null where it has none.
    pub async fn post(
        &self,
        name: &str,
        path: &str,
        body: &Value,
        idempotency: Option<&str>,
    ) -> (u16, Value) {
        self.try_post(name, path, body, idempotency).await.expect("the service answers")
    }

    /// As [`Cluster::post`]; an error when there is no answer.
    pub async fn try_post(
        &self,
        name: &str,
        path: &str,
        body: &Value,
        idempotency: Option<&str>,
    ) -> reqwest::Result<(u16, Value)> {
        self.client.try_post(name, path, body, idempotency).await
    }

    /// `GET` from a process with the test's token.
    pub async fn get(&self, name: &str, path: &str) -> (u16, Value) {
        self.try_get(name, path).await.expect("the service answers")
    }

    /// As [`Cluster::get`]; an error when there is no answer.
    pub async fn try_get(&self, name: &str, path: &str) -> reqwest::Result<(u16, Value)> {
        self.client.try_get(name, path).await
    }
}

/// The last warnings and errors of a log, a line each.
fn complaints(log: &str) -> String {
    const LINES: usize = 12;
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    told[told.len().saturating_sub(LINES)..].iter().map(|line| format!("  {line}\n")).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Where a test failed: what its processes complained of at last, for whoever can't look into the logs.
        let failed = std::thread::panicking();
        for (name, process) in &mut self.processes {
            process.kill();
            if failed {
                let place = self.dir.join(format!("{name}.log"));
                let log = std::fs::read_to_string(&place).unwrap_or_default();
                let told = format!("log of {name}: {}\n{}", place.display(), complaints(&log));
                let _ = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
            }
        }
        if !failed && !self.kept {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Self { status: output.status.code().unwrap_or(-1), json, text }
    }
}

/// Where `assent` and the simulator are: the build under test.
#[must_use]
pub fn binaries() -> PathBuf {
    match std::env::var_os("ASSENT_TEST_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug"),
    }
}
