//! Finds causes: looks at a sick target and at what it needs, judges, and proposes a cure.
//!
//! The judgement is pure ([`diagnose`]): what a monitor saw goes in, ranked causes come
//! out. Around it, [`start`] takes work, asks monitors, and reports before it acknowledges.

mod case;
mod choice;
mod diagnosis;
mod ending;
mod evidence;
mod findings;
mod gather;
mod live;
mod pressure;
mod rules;
mod suspicion;
#[cfg(test)]
mod testing;
mod work;

use std::sync::Arc;

use domain::wire::WorkKind;
use service::{BoxError, Context};

pub use diagnosis::{Diagnosis, REPORTED, diagnose};
pub use findings::Findings;
pub use gather::{is_doubtful, patience};
pub use rules::causes;
pub use work::{METRICS, report_id, report_of};

/// The analyzer's own flags.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Diagnoses under way at one time, for each zone
    #[arg(
        long,
        value_name = "N",
        env = "SELFHEAL_ANALYZER_PARALLEL",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub parallel: u16,
}

/// Takes work until it is told to stop.
///
/// # Errors
///
/// When the broker cannot be used.
pub async fn start(context: Context<Args>) -> Result<(), BoxError> {
    context.probe.describe(&METRICS);
    let stop = context.stop.clone();
    let Some(topology) = stop.run_until_cancelled(context.bus.wait_for_topology()).await else {
        return Ok(());
    };
    topology?;
    let bench = Arc::new(work::Bench {
        inbox: context.bus.inbox_writer(),
        live: live::Live::new(&context.bus),
        bus: context.bus.clone(),
        member_id: context.member_id.clone(),
        stop: stop.clone(),
    });
    let parallel = usize::from(context.args.parallel);
    let mut queue = context.bus.work().consume(WorkKind::Diagnose, &context.zones, parallel);
    drop(context.ready);
    while let Some(job) = stop.run_until_cancelled(queue.next()).await {
        context.tasks.spawn(work::run(Arc::clone(&bench), job));
    }
    Ok(())
}
