//! What a child of PID 1 gives up before it reads its first byte from outside.
//!
//! It becomes another user without capabilities and without a way to any; Landlock leaves it a few
//! folders to read and none to write; seccomp leaves it the system calls it needs. What it works
//! with (sockets, the device of the store, its line to PID 1) are descriptors that it was handed.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::config::Machine;

/// What a child is for, which decides what it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The server: threads, listening and connecting sockets, its store.
    Server,
    /// Asks others over the network and answers on its standard output: time, metadata.
    Asker,
    /// Parses what it was handed, without any socket.
    Parser,
}

impl Role {
    /// The user and group that it runs as. No file belongs to it.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Role::Server => 900,
            Role::Asker => 901,
            Role::Parser => 902,
        }
    }

    /// Bytes of memory of its own that it may have, on a machine with so many: the last eighth is
    /// the kernel's and PID 1's, whatever the server does. Parsers need little.
    fn data_bytes(self, machine_bytes: u64) -> u64 {
        match self {
            Role::Server => machine_bytes - machine_bytes / 8,
            Role::Asker | Role::Parser => 32 << 20,
        }
    }

    /// Folders that it may read.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Role::Server => &["/etc", "/run/cairn", "/proc"],
            Role::Asker => &["/etc", "/run/cairn"],
            Role::Parser => &[],
        }
    }
}

/// Gives up everything that `role` does not need, for good. The process must still be root and
/// have one thread only.
pub fn enter(role: Role) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let data_bytes = role.data_bytes(Machine::measure().memory_bytes);
    setrlimit(Resource::RLIMIT_DATA, data_bytes, data_bytes)?;
    // Where the kernel has no memory left all the same, it ends this process and no other.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    set_no_new_privs(true)?;
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows fewer than there are bits.
        if let Err(error) = remove_capability_from_bounding_set(capability)
            && error != rustix::io::Errno::INVAL
        {
            return Err(error.into());
        }
    }
    let id = role.id();
    setgroups(&[])?;
    setresgid(Gid::from_raw(id), Gid::from_raw(id), Gid::from_raw(id))?;
    setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id))?;
    restrict_files(role).map_err(|error| io::Error::other(error.to_string()))?;
    restrict_calls(role).map_err(|error| io::Error::other(error.to_string()))
}

/// Nothing is written, created, removed or executed by name, and read only in a few folders. Where
/// the kernel has that much of Landlock, no TCP port is bound, no device that is opened from now on
/// is asked anything, and nobody outside is signalled.
fn restrict_files(role: Role) -> Result<(), Box<dyn std::error::Error>> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(abi))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for folder in role.folders() {
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, read))?;
        }
    }
    if rules.restrict_self()?.ruleset == RulesetStatus::NotEnforced {
        return Err("the kernel has no Landlock".into());
    }
    Ok(())
}

fn restrict_calls(role: Role) -> Result<(), Box<dyn std::error::Error>> {
    // glibc asks for threads by clone3, whose flags a filter cannot see, and goes back to clone
    // only when there is no such call. Of two filters the stricter answer counts.
    let absent = filter(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?;
    let allowed = filter(
        calls(role)?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )?;
    seccompiler::apply_filter(&absent)?;
    seccompiler::apply_filter(&allowed)?;
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
}

/// What every child needs: memory, descriptors that it has, waiting, and its end.
const COMMON: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_openat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrlimit,
    libc::SYS_fcntl,
];

/// Sockets that it has or may open (families are told apart elsewhere).
const SOCKETS: &[i64] = &[
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
];

/// What only the server does: serving, threads, and writing its store. It listens on what PID 1
/// opened, and so never calls `listen`; `bind` is left to it for questions by UDP.
const SERVING: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_sendmmsg,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_clone3,
    libc::SYS_membarrier,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_getrusage,
];

/// FIONBIO: whether reading a socket waits.
const WAITING: u64 = 0x5421;
/// BLKGETSIZE64 and BLKPBSZGET tell about the device.
const SERVING_IOCTLS: [u64; 3] = [0x8008_1272, 0x127b, WAITING];

fn calls(role: Role) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = COMMON.iter().map(|call| (*call, Vec::new())).collect();
    let plain = |rules: &mut Rules, calls: &[i64]| {
        rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    };
    let dword = || SeccompCmpArgLen::Dword;
    let one_of = |argument: u8, values: &[u64]| {
        values
            .iter()
            .map(|value| {
                let is = SeccompCondition::new(argument, dword(), SeccompCmpOp::Eq, *value)?;
                SeccompRule::new(vec![is])
            })
            .collect::<Result<Vec<_>, _>>()
    };
    if role != Role::Parser {
        plain(&mut rules, SOCKETS);
        let families = [libc::AF_INET, libc::AF_INET6].map(|family| family as u64);
        rules.insert(libc::SYS_socket, one_of(0, &families)?);
    }
    if role == Role::Asker {
        // Time servers are heard all at once, and a service is connected to with a deadline.
        rules.insert(libc::SYS_ioctl, one_of(1, &[WAITING])?);
    }
    if role == Role::Server {
        plain(&mut rules, SERVING);
        rules.insert(libc::SYS_ioctl, one_of(1, &SERVING_IOCTLS)?);
        // tokio wakes itself up for signals through a pair.
        rules.insert(libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX as u64])?);
        rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME as u64])?);
        let thread = libc::CLONE_THREAD as u64;
        let is = SeccompCondition::new(0, dword(), SeccompCmpOp::MaskedEq(thread), thread)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is])?]);
        // A thread of its own, to abort.
        let own = [u64::from(std::process::id())];
        rules.insert(libc::SYS_tgkill, one_of(0, &own)?);
        // Limits of its own only.
        rules.insert(libc::SYS_prlimit64, one_of(0, &[0])?);
    }
    Ok(rules)
}
