//! `envnet status`: what is attached and what went through it; with `--log`, what the programs say meanwhile.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use aya_log::EbpfLogger;
use envnet_common::maps::Settings;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
};

use super::{config, context::HostContext, lock::Lock};
use crate::{
    cli::{self, Cli},
    config::{Config, ConfigError},
    kernel::{netns, pinned_maps::PinnedMaps, programs::Programs},
    observe::Depth,
    plan::{self, Others},
    status::Status,
};

/// How long it waits for another command before it looks all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it does so when what it looks at goes away meanwhile.
const ATTEMPTS: usize = 12;
/// More environments than this are not looked into: it would take longer than one likes to wait.
const MANY: usize = 1_000;

pub(super) async fn run(cli: &Cli, options: &cli::Status) -> Result<()> {
    // The maps know everything but the names of the machines, and what else there should be.
    let config = config(cli);
    let is_missing = |error: &anyhow::Error| matches!(error.downcast_ref(), Some(ConfigError::Read { .. }));
    if cli.config.is_some() && config.as_ref().is_err_and(is_missing) {
        return config.map(drop);
    }
    let context = HostContext::open(cli)?;
    let depth = depth(options, &context)?;
    let mut status = look(&context, &config, depth).await?;
    status.not_compared = status.not_compared.map(|why| cli.with_hints(&why));
    if let Some(part) = &options.environments {
        status.keep(part);
    }
    if cli.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("{}", cli.with_hints(&status.to_string()));
    }
    if options.log {
        follow_log(&context, cli.verbose).await
    } else {
        Ok(())
    }
}

fn depth(options: &cli::Status, context: &HostContext) -> Result<Depth> {
    let names = netns::names()?.bound;
    let environments = names.iter().filter_map(|name| context.instance.environment_of(name));
    Ok(if options.brief || environments.count() > MANY {
        Depth::Brief
    } else {
        Depth::Everything
    })
}

/// Looks while no other command is at work, or else at what there is meanwhile.
async fn look(context: &HostContext, config: &Result<Config>, depth: Depth) -> Result<Status> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let lock = Lock::take_within(PATIENCE)?;
        match read(context, config, depth).await {
            Ok(status) => {
                return Ok(Status {
                    busy: lock.is_none(),
                    ..status
                });
            }
            // Something went away while it was looked at.
            Err(_) if lock.is_none() && attempts < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

async fn read(context: &HostContext, config: &Result<Config>, depth: Depth) -> Result<Status> {
    let compared = match config {
        Ok(config) if depth == Depth::Brief => {
            let observed = context.observe(depth).await?;
            return Ok(Status::read(&observed, &context.instance, Some(config), None)?);
        }
        Ok(config) => context.compare(config).await.map_err(|error| format!("{error:#}")),
        Err(error) => Err(format!("{error:#}")),
    };
    let mut not_compared = None;
    let (observed, damaged) = match compared {
        Ok((desired, observed)) => {
            let damaged = match plan::attach(&desired, &observed, &context.instance, Others::Prune) {
                Ok(changes) => plan::damaged(&desired, &changes),
                Err(conflict) => {
                    not_compared = Some(conflict.to_string());
                    BTreeSet::new()
                }
            };
            (observed, damaged)
        }
        Err(error) => {
            not_compared = Some(error);
            (context.observe(depth).await?, BTreeSet::new())
        }
    };
    let damaged = (depth == Depth::Everything).then_some(&damaged);
    let status = Status::read(&observed, &context.instance, config.as_ref().ok(), damaged)?;
    Ok(Status { not_compared, ..status })
}

async fn follow_log(context: &HostContext, translations: bool) -> Result<()> {
    let programs = Programs::open(&context.instance)?.context("nothing is attached by this build of envnet")?;
    let mut maps = PinnedMaps::open(&context.instance)?.context("nothing is attached")?;
    let logger = programs
        .numbers()
        .find_map(|number| EbpfLogger::init_from_id(number).ok());
    let logger = logger.context("cannot open the programs' log")?;
    // SAFETY: the logger owns its ring buffer's descriptor and keeps it open and unchanged until it is dropped.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
    // What was logged before anybody asked.
    logger.get_mut().flush();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    maps.settings.set(
        0,
        Settings {
            log: if translations { 2 } else { 1 },
        },
        0,
    )?;
    let result = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = hangup.recv() => break Ok(()),
            interrupted = &mut interrupt => break interrupted.context("cannot wait for Ctrl-C"),
            ready = logger.readable_mut() => {
                let mut ready = ready?;
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        }
    };
    maps.settings.set(0, Settings { log: 0 }, 0)?;
    result
}
