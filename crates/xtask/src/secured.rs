//! A second door of a private Kafka: TLS with a certificate of its own, and one user who logs in with
//! SCRAM-SHA-512. It guarantees that nothing of it outlives the broker's folder; the plain door stays
//! as it is.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{At, Result};
use crate::process::step;
use crate::secrets::one_time_password;
use crate::workspace::Home;

/// The name of the one user.
const USER: &str = "assent";

/// The door, before the broker is started.
pub struct Secured {
    port: u16,
    password: String,
    /// Opens the broker's key, and nothing else.
    store_password: String,
    dir: PathBuf,
}

impl Secured {
    /// Makes the certificate and the passwords.
    pub fn make(home: &Home, port: u16) -> Result<Secured> {
        let secured = Secured {
            port,
            password: one_time_password()?,
            store_password: one_time_password()?,
            dir: home.path("kafka-tls"),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&secured.dir).at(&secured.dir)?;
        let keytool = |arguments: &[&str]| {
            let mut keytool = Command::new("keytool");
            keytool.args(arguments).args(["-alias", "kafka", "-storetype", "PKCS12"]);
            keytool.arg("-keystore").arg(secured.dir.join("kafka.p12"));
            // Arguments are seen by every process of the machine.
            keytool.args(["-storepass:env", "STORE_PASSWORD"]);
            keytool.env("STORE_PASSWORD", &secured.store_password);
            step(&mut keytool, "making Kafka's certificate", &home.log("keytool"))
        };
        keytool(&[
            "-genkeypair",
            "-keyalg",
            "EC",
            "-groupname",
            "secp256r1",
            "-dname",
            "CN=kafka",
            "-ext",
            "SAN=ip:127.0.0.1,dns:localhost",
            "-validity",
            "30",
        ])?;
        let certificate = secured.certificate();
        keytool(&["-exportcert", "-rfc", "-file", &certificate.display().to_string()])?;
        Ok(secured)
    }

    fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The listener, as the broker's settings name it.
    pub fn listener(&self) -> String {
        format!("SASL_SSL://127.0.0.1:{}", self.port)
    }

    /// The user, as the formatting of the storage takes it.
    pub fn user(&self) -> String {
        format!("SCRAM-SHA-512=[name={USER},password={}]", self.password)
    }

    /// What the broker must know beyond the listener.
    pub fn settings(&self) -> String {
        format!(
            "sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password={}
",
            self.dir.join("kafka.p12").display(),
            self.store_password
        )
    }

    /// Tells a command where the door is and how to come in.
    pub fn tell(&self, command: &mut Command) {
        command
            .env("ASSENT_TEST_KAFKA_TLS", format!("127.0.0.1:{}", self.port))
            .env("ASSENT_TEST_KAFKA_CA", self.certificate())
            .env("ASSENT_TEST_KAFKA_USER", USER)
            .env("ASSENT_TEST_KAFKA_PASSWORD", &self.password);
    }
}
