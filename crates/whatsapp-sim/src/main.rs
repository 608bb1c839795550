//! The simulator's command line.
#![expect(clippy::disallowed_macros, reason = "a development tool: it prints its address")]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use whatsapp_sim::{Options, RateLimits, StatusPlan};

/// A local stand-in for the WhatsApp Cloud API, for development and tests.
///
/// Keeps everything in memory. GET / shows the phone, GET /_sim/messages every call.
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
    /// Watch the rate per pair (error 131056)
    #[arg(long, env = "WHATSAPP_SIM_RATE_PER_PAIR")]
    rate_per_pair: bool,
    /// Do the webhook handshake at start
    #[arg(long, env = "WHATSAPP_SIM_VERIFY_ON_START")]
    verify_on_start: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
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
        served = whatsapp_sim::serve(listener, arguments.options()) => served,
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
    fn options(self) -> Options {
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
            rate_limits: RateLimits {
                per_second: self.rate_per_second,
                per_pair: self.rate_per_pair,
            },
            verify_on_start: self.verify_on_start,
        }
    }
}
