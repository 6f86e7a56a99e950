//! Restoring checkpoints, and saving what can be saved where none is left.

use super::checkpoint::{Run, Standing};
use super::fold::{CheckpointItem, Fold, Live, Place, Record, Unreadable};
use super::format::{
    FLAG_PLACE, Frame, Geometry, PLACE_BYTES, Successor, Use, decode_frame, place_from,
};
use super::log::Options;
use super::lost::Lost;
use super::own;
use super::read::read_range;
use super::replay::{At, Replay};
use super::report::{Damage, DamageKind, OpenError, name_hits};
use super::segment::Segment;
use super::superblock::{Pointer, Superblock};
use super::walk::{Step, Walk};

/// What recovery goes on with.
pub(super) struct Restored {
    /// Checkpoints that can be used again.
    pub standing: [Option<Standing>; 2],
    /// Whether a new one is wanted, because one was damaged.
    pub renew: bool,
    /// Whether what is damaged in checkpoints is lost.
    pub holes: bool,
}

/// Restores the newest checkpoint that is whole, and says from where the chain
/// is to be followed.
///
/// What a damaged one held is forgotten again: the state may take an item that
/// is left of it as proof that it reflects records whose items are lost. Only
/// when neither is whole and the chain does not go back to its beginning, what
/// is left of both is taken.
pub(super) fn restore<F: Fold + ?Sized>(
    replay: &mut Replay<'_, '_, F>,
    superblock: &Superblock,
    options: &Options,
) -> Result<Restored, OpenError> {
    let sane = |pointer: &&Pointer| pointer.tail.is_sane(superblock.geometry);
    let pointers: Vec<Pointer> = superblock
        .checkpoints
        .iter()
        .flatten()
        .filter(sane)
        .copied()
        .collect();
    let mut standing = Vec::new();
    let (mut whole, mut renew, mut holes) = (false, false, false);
    for pointer in &pointers {
        let loaded = if whole {
            runs_of(replay, pointer)?
        } else {
            load(replay, pointer)?
        };
        let Some(loaded) = loaded else {
            note_root(replay, pointer);
            renew = true;
            continue;
        };
        standing.push((Standing::of(pointer, &loaded.runs), loaded.whole));
        renew |= !loaded.whole;
        if !whole && loaded.whole {
            replay.begin(&pointer.tail);
            replay.report.checkpoint_ms = Some(pointer.complete_ms);
            whole = true;
        } else if !whole {
            start_over(replay);
        }
    }
    if !whole {
        let genesis = superblock.genesis.as_ref();
        if let Some(genesis) = genesis.filter(|tail| tail.is_sane(superblock.geometry)) {
            replay.begin(genesis);
            whole = true;
        } else {
            restore_what_is_left(replay, &pointers, options)?;
            (renew, holes) = (true, true);
        }
    }
    // A damaged one is of use only when there is nothing better.
    standing.retain(|(_, usable)| *usable || !whole);
    let mut standing = standing.into_iter().map(|(standing, _)| standing);
    Ok(Restored {
        standing: [standing.next(), standing.next()],
        renew,
        holes,
    })
}

/// Nothing was restored.
fn start_over<F: Fold + ?Sized>(replay: &mut Replay<'_, '_, F>) {
    replay.fold.reset();
    replay.live = Live::default();
    replay.map.segments.clear();
    replay.map.sweep_ms = 0;
    replay.lost.clear();
    replay.report.items = 0;
    replay.report.invalid = 0;
}

/// Restores what is left of two damaged checkpoints, the newer over the older,
/// to be followed by the tail of the older one, or salvages the whole log.
fn restore_what_is_left<F: Fold + ?Sized>(
    replay: &mut Replay<'_, '_, F>,
    pointers: &[Pointer],
    options: &Options,
) -> Result<(), OpenError> {
    replay.fold.mistrust();
    let reported = replay.report.damage.len();
    let mut begun = false;
    for pointer in pointers.iter().rev() {
        if load(replay, pointer)?.is_some() {
            begun = true;
            replay.report.checkpoint_ms = Some(pointer.complete_ms);
        }
    }
    replay.report.damage.truncate(reported);
    complete_map(replay);
    if begun {
        let oldest = pointers.last().expect("one of them was loaded");
        replay.begin(&oldest.tail);
    } else if options.salvage {
        salvage(replay)?;
    } else {
        let why = "neither of its checkpoints can be read; it can be salvaged from what its segments hold";
        return Err(OpenError::Unreadable(why.into()));
    }
    Ok(())
}

struct Loaded {
    runs: Vec<Run>,
    whole: bool,
}

/// The runs that a checkpoint's root names.
fn runs_of<F: Fold + ?Sized>(
    replay: &Replay<'_, '_, F>,
    pointer: &Pointer,
) -> Result<Option<Loaded>, Unreadable> {
    let Geometry { segment_bytes, .. } = replay.geometry;
    let end = u64::from(pointer.offset) + u64::from(pointer.len);
    if pointer.slot >= replay.map.slots || end > u64::from(segment_bytes) {
        return Ok(None);
    }
    let at = replay.geometry.slot_at(pointer.slot) + u64::from(pointer.offset);
    let bytes = read_range(replay.device, at, pointer.len as usize).unwrap_or_default();
    let frame = decode_frame(&bytes, replay.salt, pointer.segment, pointer.offset);
    let Some(root) = frame.filter(|frame| frame.record.kind == own::ROOT) else {
        return Ok(None);
    };
    is_known(&root.record)?;
    Ok(Some(Loaded {
        runs: Run::decode_all(root.record.body),
        whole: true,
    }))
}

/// An item of the log's own that a later program wrote may mean anything.
fn is_known(record: &Record<'_>) -> Result<(), Unreadable> {
    let Record { kind, version, .. } = *record;
    let known = [own::MAP, own::ROOT, own::LOST, own::SWEEP];
    if kind <= Record::KIND_MAX || (known.contains(&kind) && version == own::VERSION) {
        Ok(())
    } else {
        Err(Unreadable::Newer { kind, version })
    }
}

/// Restores a checkpoint, as far as it can be read.
fn load<F: Fold + ?Sized>(
    replay: &mut Replay<'_, '_, F>,
    pointer: &Pointer,
) -> Result<Option<Loaded>, OpenError> {
    let Some(mut loaded) = runs_of(replay, pointer)? else {
        return Ok(None);
    };
    for run in &loaded.runs {
        if run.slot >= replay.map.slots {
            loaded.whole = false;
            continue;
        }
        let (device, geometry, salt) = (replay.device, replay.geometry, replay.salt);
        let mut walk = Walk::new(
            device,
            geometry,
            salt,
            (run.segment, run.slot),
            geometry.block,
            run.end,
        );
        let mut read = Run {
            segment: run.segment,
            slot: run.slot,
            end: run.end,
            ..Run::default()
        };
        loop {
            match walk.step() {
                Step::Frame(frame) => {
                    read.add(frame.crc);
                    restore_item(replay, &frame)?;
                }
                Step::Batch(_) | Step::Bad { .. } => {}
                Step::End => break,
            }
        }
        if read != *run {
            loaded.whole = false;
            let between_ms = (Some(pointer.begun_ms), Some(pointer.complete_ms));
            let damage = Damage::of(DamageKind::Checkpoint, run.segment, geometry.block, run.end);
            replay.report.damage.push(Damage {
                between_ms,
                ..damage
            });
        }
    }
    Ok(Some(loaded))
}

fn restore_item<F: Fold + ?Sized>(
    replay: &mut Replay<'_, '_, F>,
    frame: &Frame<'_>,
) -> Result<(), OpenError> {
    let mut record = frame.record;
    is_known(&record)?;
    match record.kind {
        own::MAP => {
            let Record { kind, version, .. } = record;
            let (entries, _) = record.body.as_chunks::<{ Segment::BYTES }>();
            for bytes in entries {
                // Of an unknown class; its slot must not count as free.
                let newer = Unreadable::Newer { kind, version };
                let segment = Segment::decode(bytes).ok_or(newer)?;
                if segment.slot >= replay.map.slots || segment.end > replay.geometry.segment_bytes {
                    replay.report.invalid += 1;
                    continue;
                }
                replay.map.id_next = replay.map.id_next.max(segment.id.saturating_add(1));
                replay.map.segments.insert(segment.id, segment);
            }
            return Ok(());
        }
        own::ROOT => return Ok(()),
        own::SWEEP => {
            match record.body.first_chunk() {
                Some(since_ms) => replay.map.sweep_since(u64::from_le_bytes(*since_ms)),
                None => replay.report.invalid += 1,
            }
            return Ok(());
        }
        own::LOST => {
            match Lost::decode(record.body, record.payload) {
                Some(lost) => replay.lost.push(lost),
                None => replay.report.invalid += 1,
            }
            return Ok(());
        }
        _ => {}
    }
    let mut place = None;
    if frame.flags & FLAG_PLACE != 0 {
        let end = |place: &Place| u64::from(place.offset) + u64::from(place.len);
        let within = |place: &Place| end(place) <= u64::from(replay.geometry.segment_bytes);
        place = place_from(record.body).filter(within);
        if place.is_none() {
            replay.report.invalid += 1;
            return Ok(());
        }
        record.body = record.body.get(PLACE_BYTES..).unwrap_or_default();
    }
    replay.report.items += 1;
    match replay
        .fold
        .restore(CheckpointItem { record, place }, &mut replay.live)
    {
        Err(Unreadable::Invalid { .. }) => {
            replay.report.invalid += 1;
            Ok(())
        }
        other => Ok(other?),
    }
}

fn note_root<F: Fold + ?Sized>(replay: &mut Replay<'_, '_, F>, pointer: &Pointer) {
    let until = pointer.offset.saturating_add(pointer.len);
    let damage = Damage::of(
        DamageKind::Checkpoint,
        pointer.segment,
        pointer.offset,
        until,
    );
    let between_ms = (Some(pointer.begun_ms), Some(pointer.complete_ms));
    replay.report.damage.push(Damage {
        between_ms,
        ..damage
    });
}

/// Adds to the map what segments say of themselves, where it may be
/// incomplete. Too much does no harm: what nothing refers to is freed.
fn complete_map<F: Fold + ?Sized>(replay: &mut Replay<'_, '_, F>) {
    let taken: Vec<u32> = replay
        .map
        .segments
        .values()
        .map(|segment| segment.slot)
        .collect();
    for (slot, header) in replay.segment_headers() {
        if taken.contains(&slot) || header.class == Use::Wiping {
            continue;
        }
        replay.map.id_next = replay.map.id_next.max(header.id.saturating_add(1));
        replay.map.segments.entry(header.id).or_insert(Segment {
            id: header.id,
            slot,
            class: header.class,
            packed: header.packed,
            bucket: header.bucket,
            end: replay.geometry.segment_bytes,
            erase_ms: 0,
            damaged: false,
        });
    }
}

/// Takes everything that any segment holds: checkpoints first, then records
/// outside the chain; the chain follows.
fn salvage<F: Fold + ?Sized>(replay: &mut Replay<'_, '_, F>) -> Result<(), OpenError> {
    replay.report.salvaged = true;
    let order = |segment: &Segment| (segment.class != Use::Checkpoint, segment.id);
    let mut segments: Vec<Segment> = replay.map.segments.values().cloned().collect();
    segments.sort_by_key(order);
    for segment in segments
        .iter()
        .filter(|segment| segment.class != Use::Chain)
    {
        let (device, geometry, salt) = (replay.device, replay.geometry, replay.salt);
        let place = (segment.id, segment.slot);
        let mut walk = Walk::new(
            device,
            geometry,
            salt,
            place,
            geometry.block,
            geometry.segment_bytes,
        );
        loop {
            match walk.step() {
                Step::Frame(frame) if segment.class == Use::Checkpoint => {
                    restore_item(replay, &frame)?;
                }
                Step::Frame(frame) => replay.fold_one(&frame.record, frame.place)?,
                Step::Batch(_) | Step::Bad { .. } => {}
                Step::End => break,
            }
        }
    }
    let chain = replay.chain_segments();
    let Some(&(segment, slot)) = chain.first() else {
        return Err(OpenError::Unreadable("nothing of its chain is left".into()));
    };
    let next = chain
        .get(1)
        .map(|&(segment, slot)| Successor { segment, slot })
        .unwrap_or_default();
    replay.at = At {
        segment,
        slot,
        next,
        ..At::default()
    };
    Ok(())
}

/// Reports what the state refers to and no segment holds.
pub(super) fn find_missing<F: Fold + ?Sized>(replay: &mut Replay<'_, '_, F>) {
    let held = replay.live.segments().map(|(id, _)| id);
    let missing: Vec<u32> = held.filter(|id| replay.map.of(*id).is_none()).collect();
    let until = replay.geometry.segment_bytes;
    let missing = missing
        .into_iter()
        .map(|id| Damage::of(DamageKind::Missing, id, 0, until));
    replay.report.damage.extend(missing);
    name_hits(&*replay.fold, &mut replay.report.damage);
}
