//! `envnet status`: what is attached and what went through it; with `--log`, what the programs say meanwhile.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use aya_log::EbpfLogger;
use envnet_common::maps::Settings;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
};

use super::{config, lock::Lock, session::Session};
use crate::{
    cli::{self, Cli},
    kernel::{programs::Programs, tables::Tables},
    plan::{self, Others},
    status::Status,
};

pub(super) async fn run(cli: &Cli, options: &cli::Status) -> Result<()> {
    let session = Session::open(cli)?;
    let lock = Lock::take()?;
    // The maps know everything but the names of the machines, and what else there should be.
    let config = config(cli);
    let survey = match &config {
        Ok(config) => session.survey(config).await,
        Err(error) => Err(anyhow!("{error:#}")),
    };
    let (observed, damaged) = match survey {
        Ok((wanted, observed)) => {
            let changes = plan::attach(&wanted, &observed, &session.instance, Others::Go);
            (
                observed,
                changes.map_or_else(|_| BTreeSet::new(), |changes| plan::damaged(&wanted, &changes)),
            )
        }
        Err(error) => {
            log::debug!("not compared with the configuration: {error:#}");
            (session.observe().await?, BTreeSet::new())
        }
    };
    let status = Status::read(&observed, &session.instance, config.as_ref().ok(), &damaged)?;
    drop(lock);
    if cli.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("{status}");
    }
    if options.log {
        follow_log(&session, cli.verbose).await
    } else {
        Ok(())
    }
}

async fn follow_log(session: &Session, translations: bool) -> Result<()> {
    let programs = Programs::open(&session.instance)?.context("nothing is attached by this build of envnet")?;
    let mut tables = Tables::open(&session.instance)?.context("nothing is attached")?;
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
    tables.settings.set(
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
    tables.settings.set(0, Settings { log: 0 }, 0)?;
    result
}
