//! Filters of the clsact qdisc: those that run a program, and other people's of any kind.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya::programs::TcAttachType;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
};

use super::{Netlink, plain};
use crate::kernel::{Explain as _, Result};

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its priority: the lowest comes first.
    pub priority: u16,
    /// Number of the program; none of a filter that does not run one.
    pub program: Option<u32>,
    /// What whoever set it has called the program; empty for a filter that does not run one.
    pub name: String,
    handle: TcHandle,
    /// Priority and protocol as the kernel has them (`linux/pkt_sched.h`, `tcm_info`).
    info: u32,
}

/// The qdisc's place in the hierarchy (`TC_H_CLSACT`).
const CLSACT: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0xfff1,
};

/// All filters envnet sets have this one, so that a replacement replaces.
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };

impl Netlink {
    /// The filters of an interface's clsact qdisc in one direction.
    pub async fn filters(&self, index: u32, direction: TcAttachType) -> Result<Vec<Filter>> {
        let mut filters = self.handle.traffic_filter(signed(index)?);
        let request = match direction {
            TcAttachType::Egress => filters.get().egress(),
            _ => filters.get().ingress(),
        };
        self.list(request.execute(), "filters", |message| filter(&message))
            .await
    }

    /// What an interface has where a clsact qdisc would be: `clsact`, `ingress` or nothing.
    pub async fn filter_qdisc(&self, index: u32) -> Result<Option<String>> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(clsact(index)?);
        // Who asks for a single qdisc is only answered by an echo (`tc_get_qdisc`).
        let found = match self.request(request, NLM_F_ECHO).await {
            // Nor has an interface anything that has just gone.
            Err(rtnetlink::Error::NetlinkError(error))
                if [-libc::ENOENT, -libc::ENODEV].contains(&error.raw_code()) =>
            {
                Vec::new()
            }
            found => found.map_err(plain).explain(|| "cannot look up a qdisc")?,
        };
        let kind = |attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind),
            _ => None,
        };
        Ok(found.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(qdisc) => qdisc.attributes.into_iter().find_map(kind),
            _ => None,
        }))
    }

    /// Gives an interface a clsact qdisc, unless it has one.
    pub async fn add_clsact(&self, index: u32) -> Result<()> {
        let mut message = clsact(index)?;
        message.header.handle = TcHandle {
            major: CLSACT.major,
            minor: 0,
        };
        message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        match self.request(request, NLM_F_CREATE | NLM_F_EXCL).await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => Ok(()),
            other => other.map(drop).map_err(plain).explain(|| "cannot add a clsact qdisc"),
        }
    }

    /// Removes the clsact qdisc of an interface with all its filters, or the ingress qdisc that is in its place.
    pub async fn delete_clsact(&self, index: u32) -> Result<()> {
        let request = RouteNetlinkMessage::DelQueueDiscipline(clsact(index)?);
        let removed = self.request(request, 0).await;
        removed.map(drop).map_err(plain).explain(|| "cannot remove the qdisc")
    }

    /// Sets a filter that runs a program; one of the same priority is replaced in one step.
    pub async fn set_filter(
        &self,
        index: u32,
        direction: TcAttachType,
        priority: u16,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<()> {
        let mut message = of_priority(index, direction, priority)?;
        message.attributes.push(TcAttribute::Options(
            [
                TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
                TcFilterBpfOption::ProgName(name.to_owned()),
                TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
            ]
            .map(TcOption::Bpf)
            .to_vec(),
        ));
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        self.request(request, NLM_F_CREATE).await.map(drop).map_err(plain)
    }

    /// Takes a filter away; no error when it is not there: an ingress qdisc lists each for both directions.
    pub async fn delete_filter(&self, index: u32, direction: TcAttachType, filter: &Filter) -> Result<()> {
        let mut message = of_priority(index, direction, filter.priority)?;
        (message.header.handle, message.header.info) = (filter.handle, filter.info);
        let request = RouteNetlinkMessage::DelTrafficFilter(message);
        let removed = self.request(request, 0).await;
        match removed {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENOENT => Ok(()),
            removed => removed.map(drop).map_err(plain).explain(|| "cannot remove a filter"),
        }
    }
}

fn clsact(index: u32) -> Result<TcMessage> {
    let mut message = TcMessage::with_index(signed(index)?);
    message.header.parent = CLSACT;
    Ok(message)
}

fn of_priority(index: u32, direction: TcAttachType, priority: u16) -> Result<TcMessage> {
    let mut message = TcMessage::with_index(signed(index)?);
    let minor = match direction {
        TcAttachType::Egress => TcHandle::MIN_EGRESS,
        _ => TcHandle::MIN_INGRESS,
    };
    message.header.parent = TcHandle {
        major: CLSACT.major,
        minor,
    };
    message.header.handle = HANDLE;
    // The upper half is the priority, the lower one the protocol (`linux/pkt_sched.h`, tcm_info).
    let all = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other);
    let all = all.explain(|| "a protocol has 16 bits")?;
    message.header.info = u32::from(priority) << 16 | u32::from(all.to_be());
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    Ok(message)
}

fn signed(index: u32) -> Result<i32> {
    i32::try_from(index)
        .map_err(io::Error::other)
        .explain(|| "an interface index is a positive int")
}

fn filter(message: &TcMessage) -> Option<Filter> {
    // Before the filters of a priority the kernel lists the priority itself.
    if message.header.handle == TcHandle::UNSPEC {
        return None;
    }
    let mut filter = Filter {
        priority: u16::try_from(message.header.info >> 16).ok()?,
        program: None,
        name: String::new(),
        handle: message.header.handle,
        info: message.header.info,
    };
    let options = message.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    for option in options.flatten() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(*id),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name.clone_from(name),
            _ => {}
        }
    }
    Some(filter)
}
