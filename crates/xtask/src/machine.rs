//! What the system must have. Missing Debian packages are installed when we may (root, or sudo
//! without a password), else the line to type is printed.

use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::workspace::Home;

struct Need {
    what: &'static str,
    package: &'static str,
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need { what: "a C compiler", package: "gcc libc6-dev", present: || runs("cc", &["--version"]) },
    Need { what: "a C++ compiler", package: "g++", present: || runs("c++", &["--version"]) },
    Need { what: "make", package: "make", present: || runs("make", &["--version"]) },
    // OpenSSL, which Kafka's client brings, is configured by a Perl script.
    Need { what: "Perl", package: "perl", present: || runs("perl", &["-MIPC::Cmd", "-e", "1"]) },
    Need { what: "Java 17 or newer", package: "default-jre-headless", present: java_17 },
    Need { what: "Maven", package: "maven", present: || runs("mvn", &["--version"]) },
    Need { what: "unzip", package: "unzip", present: || runs("unzip", &["-v"]) },
    Need {
        what: "a PKCS#11 module (SoftHSM)",
        package: "softhsm2",
        present: || runs("softhsm2-util", &["--version"]),
    },
    Need { what: "OpenSSL", package: "openssl", present: || runs("openssl", &["version"]) },
    Need { what: "xz", package: "xz-utils", present: || runs("xz", &["--version"]) },
];

/// Makes sure that the system has what the cluster needs.
pub fn prepare(home: &Home) -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages = missing.iter().map(|need| need.package).collect::<Vec<_>>().join(" ");
    let line =
        format!("apt-get update && apt-get install --yes --no-install-recommends {packages}");
    let by_sudo = format!("sudo sh -c '{line}'");
    if !runs("apt-get", &["--version"]) {
        return Err(Error::Said(format!("this machine lacks {what}; install them and try again")));
    }
    let mut install = if rustix::process::geteuid().is_root() {
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]);
        shell
    } else if runs("sudo", &["-n", "true"]) {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh", "-c", &line]);
        sudo
    } else {
        return Err(Error::Missing { what, line: by_sudo });
    };
    println!("This machine lacks {what}; installing {packages}");
    crate::process::step(&mut install, "installing packages", &home.log("packages"))?;
    match missing.iter().find(|need| !(need.present)()) {
        None => Ok(()),
        Some(need) => Err(Error::Missing { what: need.what.to_owned(), line: by_sudo }),
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn java_17() -> bool {
    let Ok(output) = Command::new("java").arg("-version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split('"').nth(1).and_then(|version| version.split(['.', '-']).next());
    version.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 17)
}
