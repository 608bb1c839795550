//! The simulator's command line.
#![expect(clippy::disallowed_macros, reason = "a development tool: it prints its address")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use whatsapp_sim::{Limits, Options, Scenario, StatusPlan};

/// A local stand-in for the WhatsApp Cloud API, for development and tests.
///
/// Keeps everything in memory. GET /phone shows a person's phone, GET /_sim/messages every call.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  whatsapp-sim --webhook-url http://127.0.0.1:7103/v1/webhooks/whatsapp --app-secret s3cret"
)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "WHATSAPP_SIM_LISTEN", default_value = "127.0.0.1:7110")]
    listen: String,
    /// Where webhooks go; without it none are sent
    #[arg(long, env = "WHATSAPP_SIM_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// Signs webhooks (X-Hub-Signature-256)
    #[arg(
        long,
        env = "WHATSAPP_SIM_APP_SECRET",
        default_value = "sim-app-secret",
        hide_env_values = true
    )]
    app_secret: String,
    /// The bearer token that callers must show
    #[arg(
        long,
        env = "WHATSAPP_SIM_ACCESS_TOKEN",
        default_value = "sim-access-token",
        hide_env_values = true
    )]
    access_token: String,
    /// Shown in the webhook handshake
    #[arg(
        long,
        env = "WHATSAPP_SIM_VERIFY_TOKEN",
        default_value = "sim-verify-token",
        hide_env_values = true
    )]
    verify_token: String,
    /// The business number's id
    #[arg(long, env = "WHATSAPP_SIM_PHONE_NUMBER_ID", default_value = "106540352242922")]
    phone_number_id: String,
    /// The business number
    #[arg(long, env = "WHATSAPP_SIM_DISPLAY_PHONE_NUMBER", default_value = "33900000001")]
    display_phone_number: String,
    /// The business number's country code, put before a `to` without `+`
    #[arg(long, env = "WHATSAPP_SIM_COUNTRY_CODE", default_value = "33")]
    country_code: String,
    /// Statuses that follow an accepted message
    #[arg(
        long,
        env = "WHATSAPP_SIM_STATUSES",
        default_value = "sent,delivered,read",
        value_delimiter = ','
    )]
    statuses: Vec<String>,
    /// Milliseconds before each status
    #[arg(long, env = "WHATSAPP_SIM_STATUS_DELAY_MS", default_value_t = 50)]
    status_delay_ms: u64,
    /// Messages a second before error 130429; without it unlimited
    #[arg(long, env = "WHATSAPP_SIM_RATE_PER_SECOND")]
    rate_per_second: Option<u32>,
    /// Enforce the rate per pair (error 131056)
    #[arg(long, env = "WHATSAPP_SIM_RATE_PER_PAIR")]
    rate_per_pair: bool,
    /// People reached outside the window in 24 hours before error 131048; without it unlimited
    #[arg(long, env = "WHATSAPP_SIM_PEOPLE_PER_DAY")]
    people_per_day: Option<u32>,
    /// Marketing messages a person gets in 24 hours before error 131049; without it unlimited
    #[arg(long, env = "WHATSAPP_SIM_MARKETING_PER_DAY")]
    marketing_per_day: Option<u32>,
    /// A scenario file (TOML): faults, statuses, limits, templates
    #[arg(long, env = "WHATSAPP_SIM_SCENARIO")]
    scenario: Option<PathBuf>,
    /// Where chance begins; without it anywhere
    #[arg(long, env = "WHATSAPP_SIM_SEED")]
    seed: Option<u64>,
    /// The address given in links to media and further pages; without it the one listened on
    #[arg(long, env = "WHATSAPP_SIM_PUBLIC_URL")]
    public_url: Option<String>,
    /// Do the webhook handshake at start
    #[arg(long, env = "WHATSAPP_SIM_VERIFY_ON_START")]
    verify_on_start: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let scenario = match arguments.scenario.as_deref().map(scenario).transpose() {
        Ok(scenario) => scenario,
        Err(what) => {
            eprintln!("whatsapp-sim: {what}");
            return ExitCode::from(2);
        }
    };
    let listener = match TcpListener::bind(&arguments.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("whatsapp-sim: can't listen on {}: {error}", arguments.listen);
            return ExitCode::FAILURE;
        }
    };
    if let Ok(address) = listener.local_addr() {
        println!("whatsapp-sim listening on http://{address}");
        let _ = std::io::stdout().flush();
    }
    let served = tokio::select! {
        served = whatsapp_sim::serve(listener, arguments.options(scenario)) => served,
        () = stopped() => Ok(()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whatsapp-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scenario(path: &Path) -> Result<Scenario, String> {
    let told = |what: String| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    Scenario::parse(&text).map_err(told)
}

/// SIGTERM or Ctrl-C. Nothing is worth a graceful stop here.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

impl Arguments {
    fn options(self, scenario: Option<Scenario>) -> Options {
        Options {
            webhook_url: self.webhook_url,
            app_secret: self.app_secret,
            access_token: self.access_token,
            verify_token: self.verify_token,
            phone_number_id: self.phone_number_id,
            display_phone_number: self.display_phone_number,
            business_account_id: "102290129340398".to_owned(),
            country_code: self.country_code,
            plan: StatusPlan { statuses: self.statuses, delay_ms: self.status_delay_ms },
            app_id: "670843887433847".to_owned(),
            limits: Limits {
                per_second: self.rate_per_second,
                per_pair: self.rate_per_pair,
                people_per_day: self.people_per_day,
                marketing_per_day: self.marketing_per_day,
            },
            scenario,
            seed: self.seed,
            public_url: self.public_url,
            verify_on_start: self.verify_on_start,
        }
    }
}
