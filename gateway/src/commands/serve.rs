//! `pointsman serve`: the gateway itself.

use std::process::ExitCode;
use std::time::Duration;

use pointsman_backends::portfolio::Secrets;

use crate::cli::ServeArguments;
use crate::config::set;
use crate::serve::{self, handover, inherited::Inherited};
use crate::telemetry::logs;

/// Name look-ups run on threads that cannot be cancelled; they get this long.
const LAST_LOOKUPS: Duration = Duration::from_secs(1);

/// Serves until it is told to stop.
pub fn run(arguments: &ServeArguments) -> anyhow::Result<ExitCode> {
    let mut loaded = set::load(&arguments.config, Secrets::Required);
    anstream::eprint!("{}", loaded.render(true));
    let Some(set) = loaded.set.take() else { return Ok(ExitCode::FAILURE) };
    logs::start(&set.process.telemetry);
    let inherited = match arguments.inherit {
        true => Inherited::from_process_before(&handover::path(&set.process.state))?,
        false => Inherited::from_environment()?,
    };
    let runtime = super::runtime()?;
    let served = runtime.block_on(async {
        let (watched, record) = (Some(arguments.config.clone()), arguments.record.clone());
        let options = serve::Options { watched, tap: None, record, inherited };
        let running = serve::start(set, options).await?;
        let snapshot = running.gateway.snapshot();
        tracing::info!(
            policy = %snapshot.version,
            endpoints = snapshot.portfolio.endpoints.len(),
            "serving on http{}://{}, admin on http://{}",
            if snapshot.process.tls.is_some() { "s" } else { "" },
            running.address,
            running.admin_address,
        );
        drop(snapshot);
        running.until_signalled(&arguments.config).await?;
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(LAST_LOOKUPS); // a name server that hangs does not
    served
}
