//! A service that hangs when it is told to, for the tests of the watchdog.

use std::process::ExitCode;

use service::{BoxError, Context};

#[derive(clap::Args, Debug)]
struct Args {
    /// Blocks every thread of the runtime once it is ready
    #[arg(long)]
    hang: bool,
}

/// More than the runtime has threads.
const TASKS: usize = 16;

fn main() -> ExitCode {
    service::run("stuck", start)
}

async fn start(cx: Context<Args>) -> Result<(), BoxError> {
    drop(cx.ready);
    if cx.args.hang {
        for _ in 0..TASKS {
            cx.tasks.spawn(async {
                loop {
                    std::thread::park();
                }
            });
        }
    }
    cx.stop.cancelled().await;
    Ok(())
}
