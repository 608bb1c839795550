//! A private single-node Kafka (KRaft).

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::artifacts::Artifacts;
use crate::error::{At, Error, Result, hint_from};
use crate::process::{Process, interrupted, step, wait_until};
use crate::secured::Secured;
use crate::workspace::{Home, write_private};

/// Starts Kafka on the port, formatting its storage on the first call; with a second door if one was
/// made.
pub fn start(
    artifacts: &Artifacts,
    home: &Home,
    (port, controller_port): (u16, u16),
    secured: Option<&Secured>,
) -> Result<Process> {
    let data = home.path("kafka");
    let properties = home.path("kafka.properties");
    write_private(&properties, &settings(&data, port, controller_port, secured))?;
    let classpath = format!("{}/*", artifacts.jars.display());
    if !data.join("meta.properties").exists() {
        let mut format = Command::new("java");
        format
            .args(["-cp", &classpath, "kafka.tools.StorageTool", "format", "--standalone"])
            .args(["-t", &cluster_id()?, "-c"])
            .arg(&properties);
        if let Some(secured) = secured {
            format.args(["--add-scram", &secured.user()]);
        }
        let log = home.log("kafka-format");
        step(&mut format, "formatting Kafka's storage", &log)?;
        if secured.is_some() {
            std::fs::remove_file(&log).at(&log)?;
        }
    }
    let log = home.log("kafka");
    let before = std::fs::metadata(&log).map_or(0, |data| data.len());
    let process = Process::start(
        Command::new("java")
            // For a broker that lives for minutes on few cores: it starts and warms up sooner.
            .args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info")
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .args(["-cp", &classpath, "kafka.Kafka"])
            .arg(&properties),
        &log,
    )?;
    let ready = wait_until(Duration::from_secs(90), || {
        !process.is_alive() || interrupted() || says_started(&log, before)
    });
    if ready && process.is_alive() && !interrupted() {
        if secured.is_some() {
            // A password stands in it, and the broker has read it.
            std::fs::remove_file(&properties).at(&properties)?;
        }
        return Ok(process);
    }
    process.signal(Signal::KILL);
    if interrupted() {
        return Err(Error::Interrupted);
    }
    Err(Error::Step { what: "starting Kafka".to_owned(), hint: hint_from(&log), log })
}

fn says_started(log: &std::path::Path, from: u64) -> bool {
    use std::io::{Seek, SeekFrom};
    let mut text = String::new();
    std::fs::File::open(log)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_string(&mut text)
        })
        .is_ok_and(|_| text.contains("Kafka Server started"))
}

fn settings(
    data: &std::path::Path,
    port: u16,
    controller_port: u16,
    secured: Option<&Secured>,
) -> String {
    let second = secured.map(|secured| format!(",{}", secured.listener())).unwrap_or_default();
    let more = secured.map(Secured::settings).unwrap_or_default();
    // The cleaner looks each second, and not each fifteenth: a test waits until compaction has dropped a tombstone.
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{second}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{second}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
log.retention.ms=-1
log.cleaner.backoff.ms=1000
{more}",
        data.display()
    )
}

/// A random cluster id: 16 bytes, base64url, as Kafka wants it.
fn cluster_id() -> Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0_u8; 22];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .at("/dev/urandom")?;
    // 21 full digits and a last one of two bits; it may not begin with a dash.
    let mut text: String =
        bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect();
    text.replace_range(0..1, "A");
    text.replace_range(21..22, "A");
    Ok(text)
}
