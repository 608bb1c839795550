//! `manifests`: whether `k8s/` is right, without a cluster, and `docker-compose.yml`, without an engine. Every overlay is rendered; what comes out is held
//! against the schemas of Kubernetes and of the operators, against the code (topics, rights, groups, ports, pages, metrics, settings, key
//! files), and looked through by a linter; the alerts are tested. What only an API server does, admission and
//! the operators' own rules, is not done here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compile::linting_cargo;
use crate::error::{At, Error, Result};
use crate::process::{catch_interrupts, show, step};
use crate::python::environment;
use crate::workspace::{Home, root, target};

/// A program that Go builds.
struct GoTool {
    name: &'static str,
    package: &'static str,
    version: &'static str,
}

const KUSTOMIZE: GoTool =
    GoTool { name: "kustomize", package: "sigs.k8s.io/kustomize/kustomize/v5", version: "v5.7.1" };
const KUBE_SCORE: GoTool = GoTool {
    name: "kube-score",
    package: "github.com/zegl/kube-score/cmd/kube-score",
    version: "v1.20.0",
};

/// Runs every check.
pub fn manifests() -> Result<()> {
    catch_interrupts();
    println!("Kubernetes manifests");
    let home = Home::open("manifests")?;
    let (kustomize, kube_score) = (KUSTOMIZE.program(&home)?, KUBE_SCORE.program(&home)?);
    let promtool = promtool(&home)?;
    show(&mut linting_cargo(&["build", "--workspace", "--bins"]), "`cargo build`")?;
    let binaries = target().join("debug");
    let rendered = render(&home, &kustomize, &binaries)?;

    let checks = root().join("crates/xtask/manifests");
    let alerts = home.path("alerts.yaml");
    let python = environment(&home, "manifests", &checks.join("requirements.txt"))?;
    let mut check = Command::new(python);
    check.env("PYTHONDONTWRITEBYTECODE", "1").arg(checks.join("check.py"));
    check.arg(root()).arg(&rendered).arg(&binaries).arg(&alerts);
    show(&mut check, "the check of the manifests")?;

    for overlay in ["laptop", "production"] {
        let mut lint = Command::new(&kube_score);
        lint.args(["score", "--output-format", "ci", "--kubernetes-version", "v1.30"])
            // Why there is none: k8s/base/pod.yaml. Tags are exact, so what is there is the image.
            .args(["--ignore-container-cpu-limit", "--ignore-test", "container-image-pull-policy"])
            .arg(rendered.join(format!("{overlay}.yaml")));
        step(&mut lint, &format!("kube-score on {overlay}"), &home.log("kube-score"))?;
    }

    let tests = home.path("prometheusrule.test.yaml");
    let written = root().join("k8s/components/monitoring/prometheusrule.test.yaml");
    fs::copy(&written, &tests).at(&written)?;
    let asks = root().join("compose/prometheus.yml");
    show(
        // The rules that it names are made in the container; the test below reads them.
        Command::new(&promtool).args(["check", "config", "--syntax-only"]).arg(asks),
        "the check of compose/prometheus.yml",
    )?;
    show(Command::new(promtool).args(["test", "rules"]).arg(tests), "the test of the alerts")
}

/// Renders a copy of the overlays, with secrets made for it; the folder with a file for each.
fn render(home: &Home, kustomize: &Path, binaries: &Path) -> Result<PathBuf> {
    let (copy, rendered) = (home.path("k8s"), home.path("rendered"));
    for folder in [&copy, &rendered] {
        let _ = fs::remove_dir_all(folder);
    }
    let log = home.log("render");
    let mut take = Command::new("cp");
    take.arg("-R").arg(root().join("k8s")).arg(&copy);
    step(&mut take, "copying the overlays", &log)?;
    let laptop = copy.join("overlays/laptop");
    let _ = fs::remove_dir_all(laptop.join("secrets"));
    let mut keys = Command::new(laptop.join("keys.sh"));
    step(keys.arg(binaries.join("assent")), "making their secrets", &log)?;

    fs::create_dir_all(&rendered).at(&rendered)?;
    let production = copy.join("overlays/production");
    for (name, folder) in [("laptop", laptop), ("production", production)] {
        let mut build = Command::new(kustomize);
        build.arg("build").arg(folder).arg("--output").arg(rendered.join(format!("{name}.yaml")));
        step(&mut build, &format!("rendering {name}"), &log)?;
    }
    Ok(rendered)
}

impl GoTool {
    /// The program, built once under `target/tools`.
    fn program(&self, home: &Home) -> Result<PathBuf> {
        let folder = target().join("tools").join(format!("{}-{}", self.name, self.version));
        let program = folder.join(self.name);
        if !program.exists() {
            let mut install = Command::new("go");
            install.env("GOBIN", &folder);
            install.arg("install").arg(format!("{}@{}", self.package, self.version));
            step(&mut install, &format!("building {}", self.name), &home.log(self.name)).map_err(
                |error| Error::Said(format!("{error}\nIt needs Go 1.23 or newer: `go version`")),
            )?;
        }
        Ok(program)
    }
}

/// The tester of alerts: the machine's, or the one out of Debian's package, which would start a server if it
/// were installed.
fn promtool(home: &Home) -> Result<PathBuf> {
    let mut ask = Command::new("promtool");
    ask.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if ask.status().is_ok_and(|status| status.success()) {
        return Ok("promtool".into());
    }
    let folder = target().join("tools/prometheus");
    let program = folder.join("usr/bin/promtool");
    if !program.exists() {
        fs::create_dir_all(&folder).at(&folder)?;
        // A new machine has no list of packages yet.
        let line = "get() { apt-get download prometheus; }
            { get || { apt-get update && get; }; } && dpkg-deb -x prometheus_*.deb . && rm *.deb";
        let mut unpack = Command::new("sh");
        unpack.current_dir(&folder).args(["-c", line]);
        step(&mut unpack, "fetching promtool", &home.log("promtool")).map_err(|error| {
            Error::Said(format!(
                "{error}\nIt needs promtool: `apt-get install prometheus`, or `apt-get update` for trying again"
            ))
        })?;
    }
    Ok(program)
}
