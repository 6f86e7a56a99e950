//! Opening a log: superblock, checkpoint, tail.
//!
//! What is found damaged is quarantined and reported, and everything else is
//! served. A store that cannot be read is an error, never an empty store.

use std::collections::VecDeque;

use super::chore::{Allowance, geometry_for};
use super::disk::Device;
use super::fold::Fold;
use super::format::{Successor, Use};
use super::log::{Chain, Identity, Log, Options};
use super::lost;
use super::replay::Replay;
use super::report::{Damage, DamageKind, OpenError, Recovery};
use super::restore::{Restored, find_missing, restore};
use super::superblock::{self, Current, Superblock, TailStart};

impl Log {
    /// Opens the log on `device` and folds it into `fold`, which must be empty.
    /// A device that is empty becomes a new store.
    pub fn open<F: Fold + ?Sized>(
        device: &dyn Device,
        fold: &mut F,
        options: Options,
        now_ms: u64,
    ) -> Result<(Log, Recovery), OpenError> {
        if !options.read_only {
            // What recovery reads is durable from here on, also where only the
            // process before had died.
            device.sync()?;
        }
        let Current {
            superblock,
            index,
            verified,
        } = match superblock::find(device, &options.formats.reads)? {
            Some(found) => found,
            None if options.read_only => return Err(OpenError::NotAStore),
            None => Current {
                superblock: create(device, &options, now_ms)?,
                index: 0,
                verified: 2,
            },
        };
        let created = superblock.epoch == 0;
        let mut replay = Replay::new(device, fold, &superblock);
        replay.salvage = options.salvage;
        replay.report.superblocks = verified;
        replay.report.created = created;
        replay.report.format = superblock.format;
        replay.report.clean = superblock.clean;
        replay.map.slots = superblock.geometry.slots(device.len());
        if replay.map.slots < superblock.slots {
            let (left, whole) = (replay.map.slots, superblock.slots);
            return Err(OpenError::Unreadable(format!(
                "its device was cut off: {left} of {whole} segments are left"
            )));
        }
        let restored = restore(&mut replay, &superblock, &options)?;
        replay.run()?;
        replay.report.tail_bytes = replay.tail_bytes;
        let checkpoint_ms = replay.report.checkpoint_ms.unwrap_or(0);
        replay.report.newest_ms = replay.at.time_ms.max(checkpoint_ms);
        find_missing(&mut replay);
        if replay.at.slot.max(replay.at.next.slot) >= replay.map.slots {
            let why = "its chain leads beyond the end of the device";
            return Err(OpenError::Unreadable(why.into()));
        }
        let holes = restored.holes;
        let (mut log, mut report) = settle(replay, &superblock, restored, options, device);
        log.now_ms = now_ms;
        let is_loss = |damage: &&Damage| holes || damage.kind != DamageKind::Checkpoint;
        let found = report.damage.iter().filter(is_loss).cloned().collect();
        log.lost = lost::gather(std::mem::take(&mut log.lost), found, now_ms);
        if !log.options.read_only {
            log.format = log.options.formats.after(superblock.format);
            report.raised_from = (log.format > superblock.format).then_some(superblock.format);
            report.format = log.format;
            log.epoch = superblock.epoch.saturating_add(1);
            // The last group may have been lost with what it announced: its
            // identities are not used again either.
            let given = log.map.id_next.max(superblock.id_floor);
            log.map.id_next = given.saturating_add(IDS_LOST_MAX);
            log.epoch_batch = log.chain.number;
            let superblock = log.superblock(false);
            superblock.write(device, index)?;
            log.superblock_is_durable(&superblock);
        }
        Ok((log, report))
    }
}

/// More segments than one group announces.
const IDS_LOST_MAX: u32 = 64;
/// A store has at least this many segments.
const SLOTS_MIN: u32 = 12;

fn create(device: &dyn Device, options: &Options, now_ms: u64) -> Result<Superblock, OpenError> {
    let geometry = geometry_for(device, options.segment_bytes);
    if !geometry.is_sane() {
        return Err(OpenError::Unreadable(format!(
            "a segment of {} bytes is not possible",
            geometry.segment_bytes
        )));
    }
    let bytes_min = geometry.len_for(SLOTS_MIN);
    if device.grows() && device.len() < bytes_min {
        device.grow(bytes_min)?;
    }
    if device.len() < bytes_min {
        return Err(OpenError::TooSmall {
            bytes: device.len(),
            bytes_min,
        });
    }
    let genesis = TailStart {
        segment: 1,
        slot: 0,
        offset: 0,
        next: Successor {
            segment: 2,
            slot: 1,
        },
        previous: 0,
        number: 1,
        seq_next: 1,
        position: 0,
        id_next: 3,
    };
    let [id @ .., a, b, c, d, e, f, g, h] = options.random;
    let superblock = Superblock {
        format: options.formats.of_new(),
        generation: 1,
        geometry,
        store_id: id,
        salt: [a, b, c, d, e, f, g, h],
        created_ms: now_ms,
        slots: geometry.slots(device.len()),
        epoch: 0,
        epoch_batch: 1,
        durable_batch: 0,
        id_floor: 0,
        clean: true,
        checkpoints: [None, None],
        genesis: Some(genesis),
    };
    superblock.write(device, 1)?;
    Ok(superblock)
}

/// Makes the log out of what recovery found.
fn settle<F: Fold + ?Sized>(
    replay: Replay<'_, '_, F>,
    superblock: &Superblock,
    restored: Restored,
    options: Options,
    device: &dyn Device,
) -> (Log, Recovery) {
    let Replay {
        geometry,
        salt,
        live,
        mut map,
        at,
        report,
        lost,
        tail_bytes,
        ..
    } = replay;
    map.settle(map.slots);
    if device.grows() {
        map.suspect_raw();
    }
    let heads = map.unfilled(geometry.segment_bytes, geometry.block);
    let offset = if at.leave {
        geometry.segment_bytes
    } else {
        at.offset
    };
    let chain = Chain {
        segment: at.segment,
        slot: at.slot,
        offset,
        next: at.next,
        previous: at.previous.unwrap_or(0),
        number: at.number,
    };
    let Restored {
        standing, renew, ..
    } = restored;
    // Until the superblock is written anew, nothing is given back.
    let needed_from = 0;
    let wiping = map
        .segments
        .values()
        .filter(|segment| segment.class == Use::Wiping)
        .map(|segment| segment.id);
    let wipes: VecDeque<u32> = wiping.collect();
    let log = Log {
        identity: Identity {
            store_id: superblock.store_id,
            salt: superblock.salt,
            created_ms: superblock.created_ms,
        },
        format: superblock.format,
        geometry,
        salt,
        options,
        epoch: superblock.epoch,
        epoch_batch: superblock.epoch_batch,
        generation: superblock.generation,
        map,
        live,
        chain,
        heads,
        open: None,
        sealed: VecDeque::new(),
        flying: None,
        spare: Vec::new(),
        ticket: 0,
        seq_next: at.seq_next,
        position: at.position,
        durable: at.position,
        durable_batch: at.number.saturating_sub(1),
        tail_bytes,
        // Not known; enough to make it worth a checkpoint when space is short.
        tail_bytes_before: 1,
        standing,
        genesis: superblock.genesis,
        needed_from,
        renew,
        running: None,
        lost,
        compaction: None,
        superblock_due: false,
        reserve_given_up: false,
        closing: false,
        closed: false,
        poisoned: None,
        now_ms: 0,
        allowance: Allowance::default(),
        chore_ticket: 0,
        chore_out: false,
        wipes,
        wipes_next: false,
        grows: device.grows(),
        grow_failed_ms: None,
    };
    (log, report)
}
