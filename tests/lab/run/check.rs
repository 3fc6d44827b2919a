//! Every guest, asked from outside: does it answer, is it the right one, and does it see the right sibling?

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{member::Member, progress::Progress};
use crate::{Lab, http, interrupt, parallel::in_parallel, ping::ping};

/// How long a guest may take from its resume to its first answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of asking one guest.
#[derive(Debug)]
pub(super) struct Answer {
    /// From the resume to the first answered packet.
    pub(super) delay: Duration,
    /// What is wrong with its page, if anything.
    pub(super) problem: Option<String>,
}

impl Answer {
    pub(super) fn is_right(&self) -> bool {
        self.problem.is_none()
    }
}

pub(super) fn ask_all(lab: &Lab, members: &mut [Member], progress: &Progress) -> Result<Vec<Answer>> {
    let delays = in_parallel(&mut *members, |member| {
        let start = Instant::now();
        member.resume()?;
        first_answer(lab, member, start)
    })?;
    progress.step("guests resumed and reached from outside");
    in_parallel(&mut *members, Member::tell_token)?;
    progress.step("each guest told a secret of its own over its console");
    in_parallel(&mut *members, Member::visit_sibling)?;
    progress.step("each guest has visited its sibling at the internal address");
    let members = &*members;
    let questions = members.iter().zip(delays).map(|(member, delay)| {
        (
            delay,
            member.external(),
            member.expected_page(&sibling_of(member, members).token),
        )
    });
    in_parallel(questions.collect::<Vec<_>>(), |(delay, address, expected)| {
        let problem = match http::get(lab.outside(), address, PATIENCE) {
            Ok(page) if page == expected => None,
            Ok(page) => Some(format!("page says {page:?}, not {expected:?}")),
            Err(error) => Some(format!("{error:#}")),
        };
        Ok(Answer { delay, problem })
    })
}

fn first_answer(lab: &Lab, member: &Member, start: Instant) -> Result<Duration> {
    while start.elapsed() < PATIENCE {
        interrupt::check()?;
        if ping(lab.outside(), member.external(), 56, Duration::from_secs(1))?.is_some() {
            return Ok(start.elapsed());
        }
    }
    bail!(
        "{} does not answer pings within {} s",
        member.external(),
        PATIENCE.as_secs()
    )
}

fn sibling_of<'a>(member: &'a Member, members: &'a [Member]) -> &'a Member {
    let is_sibling = |other: &&Member| other.environment == member.environment && other.role == member.role.sibling();
    members.iter().find(is_sibling).unwrap_or(member)
}
