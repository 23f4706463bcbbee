// SPDX-License-Identifier: GPL-2.0

//! Cases for [`crate::ring`], without a kernel: KUnit runs them in the module, and the fuzzer in
//! userspace (`ring_fuzz.rs`) with as many seeds as time allows.

use super::ring_memory::{
    addr, ensure, layout, FakeMemory, Outcome, BASE, DESC, DEVICE, DRIVER, INDIRECT, NEXT, TABLE,
    WRITE,
};
use crate::random::Random;
use crate::ring::{
    Chain, Layout, PackedPosition, Position, RingError, RingFeatures, RingResult, Segment, Token,
    Violation, VirtQueue,
};

/// Size of most queues.
const NUM: u16 = 8;

/// Features of a split queue: everything but event indices.
const SPLIT: RingFeatures = RingFeatures {
    little_endian: true,
    indirect: true,
    event_idx: false,
    packed: false,
};
/// Features of a packed queue: everything but event indices.
const PACKED: RingFeatures = RingFeatures {
    packed: true,
    ..SPLIT
};

/// Flags of descriptors in a packed ring.
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Creates a queue of [`NUM`] descriptors. It is an error if that fails.
fn queue(features: RingFeatures, start: Position) -> Outcome<VirtQueue> {
    VirtQueue::new(layout(NUM), features, start).map_err(|_| "there should be a queue")
}

/// Returns the position of a packed queue with nothing in flight.
fn packed_at(idx: u16, wrap: bool) -> Position {
    Position::Packed(PackedPosition {
        avail_idx: idx,
        avail_wrap: wrap,
        used_idx: idx,
        used_wrap: wrap,
    })
}

/// Makes `head` available as entry `index` of a split queue, and sets the driver's index behind it.
fn avail(mem: &FakeMemory, index: u16, head: u16) {
    mem.put_u16(DRIVER + 4 + 2 * u64::from(index % NUM), head);
    mem.put_u16(DRIVER + 2, index.wrapping_add(1));
}

/// Makes the first descriptor available, in either kind of queue.
fn first(mem: &FakeMemory, features: RingFeatures, what: (u64, u32), flags: u16, link: u16) {
    if features.packed {
        mem.desc(DESC, 0, what, link, flags | AVAIL);
    } else {
        mem.desc(DESC, 0, what, flags, link);
        avail(mem, 0, 0);
    }
}

/// Writes a descriptor. Its last two fields have a different order in split and packed queues.
fn desc(
    mem: &FakeMemory,
    features: RingFeatures,
    (table, index): (u64, u16),
    what: (u64, u32),
    flags: u16,
    link: u16,
) {
    if features.packed {
        mem.desc(table, index, what, link, flags);
    } else {
        mem.desc(table, index, what, flags, link);
    }
}

/// A walked chain: its token, its first four segments, and their number.
type Walked = (Token, [Segment; 4], usize);

/// Takes and walks the next chain.
fn walk(queue: &mut VirtQueue, mem: &FakeMemory) -> RingResult<Option<Walked>> {
    let Some(mut chain) = queue.pop(mem)? else {
        return Ok(None);
    };
    let none = Segment {
        addr: 0,
        len: 0,
        writable: false,
    };
    let (mut found, mut count) = ([none; 4], 0);
    while let Some(segment) = chain.next(mem)? {
        if let Some(slot) = found.get_mut(count) {
            *slot = segment;
        }
        count += 1;
    }
    Ok(Some((chain.token(), found, count)))
}

/// Takes and walks a chain that must be there.
fn chain(queue: &mut VirtQueue, mem: &FakeMemory) -> Outcome<Walked> {
    match walk(queue, mem) {
        Ok(Some(walked)) => Ok(walked),
        _ => Err("there should be a chain"),
    }
}

/// Checks that the first chain breaks a new queue.
fn broken(mem: &FakeMemory, features: RingFeatures, why: Violation) -> Outcome {
    refused(mem, features, RingError::Invalid(why))
}

/// Checks that the first chain of a new queue cannot be walked.
fn refused(mem: &FakeMemory, features: RingFeatures, why: RingError) -> Outcome {
    let mut queue = queue(features, Position::initial(features.packed))?;
    ensure!(walk(&mut queue, mem).err() == Some(why));
    Ok(())
}

/// Checks requests and their answers, three times around the ring and beyond the largest index.
fn goes_round_split(mem: &FakeMemory) -> Outcome {
    mem.clear(NUM, false);
    let start = u16::MAX - NUM;
    mem.put_u16(DRIVER + 2, start);
    let mut queue = queue(SPLIT, Position::Split(start))?;
    for step in 0..3 * NUM {
        let index = start.wrapping_add(step);
        let head = step * 3 % NUM;
        let next = (head + 1) % NUM;
        mem.desc(DESC, head, (0x1000, 12), NEXT, next);
        mem.desc(DESC, next, (0x2000, 99), WRITE, 0);
        ensure!(matches!(walk(&mut queue, mem), Ok(None)));
        avail(mem, index, head);
        let (token, [first, second, ..], count) = chain(&mut queue, mem)?;
        ensure!(count == 2);
        ensure!(first.addr == 0x1000 && first.len == 12 && !first.writable);
        ensure!(second.addr == 0x2000 && second.len == 99 && second.writable);
        ensure!(queue.in_flight() == 1);
        ensure!(queue.push(mem, token, 7 + u32::from(step)).is_ok());
        ensure!(queue.in_flight() == 0);
        ensure!(mem.get_u16(DEVICE + 2) == if step == 0 { 0 } else { index });
        ensure!(queue.flush(mem).is_ok());
        let slot = DEVICE + 4 + 8 * u64::from(index % NUM);
        ensure!(mem.get(slot, 4) == u64::from(head));
        ensure!(mem.get(slot + 4, 4) == 7 + u64::from(step));
        ensure!(mem.get_u16(DEVICE + 2) == index.wrapping_add(1));
        ensure!(queue.position() == Position::Split(index.wrapping_add(1)));
        // It was returned already.
        ensure!(step % 5 > 0 || queue.push(mem, token, 0).is_err());
    }
    ensure!(!mem.strayed.get());
    Ok(())
}

/// Checks requests of three descriptors and their answers, several times around a packed ring.
fn goes_round_packed(mem: &FakeMemory) -> Outcome {
    mem.clear(NUM, true);
    let mut queue = queue(PACKED, Position::initial(true))?;
    let (mut at, mut wrap) = (0, true);
    for step in 0..3 * NUM {
        let available = |wrap| if wrap { AVAIL } else { USED };
        ensure!(matches!(walk(&mut queue, mem), Ok(None)));
        let (head, head_wrap) = (at, wrap);
        for part in 0..3 {
            let flags = available(wrap)
                | match part {
                    0 => NEXT,
                    1 => NEXT | WRITE,
                    _ => WRITE,
                };
            let len = 10 + u32::from(part);
            mem.desc(DESC, at, (0x1000, len), 0xff00 + 3 * step + part, flags);
            at = (at + 1) % NUM;
            wrap ^= at == 0;
        }
        let (token, [first, second, third, _], count) = chain(&mut queue, mem)?;
        ensure!(count == 3 && queue.in_flight() == 1);
        ensure!(first.len == 10 && second.len == 11 && third.len == 12);
        ensure!(!first.writable && second.writable && third.writable);
        let slot = DESC + 16 * u64::from(head);
        ensure!(queue.push(mem, token, u32::from(step)).is_ok());
        ensure!(mem.get_u16(slot + 14) == available(head_wrap) | NEXT);
        ensure!(queue.flush(mem).is_ok());
        ensure!(mem.get(slot + 8, 4) == u64::from(step));
        // The ID is that of the last descriptor.
        ensure!(mem.get_u16(slot + 12) == 0xff00 + 3 * step + 2);
        let used = if head_wrap { AVAIL | USED } else { 0 };
        let wrote = if step > 0 { WRITE } else { 0 };
        ensure!(mem.get_u16(slot + 14) == used | wrote);
        ensure!(queue.position() == packed_at(at, wrap));
        ensure!(step % 5 > 0 || queue.push(mem, token, 0).is_err());
    }
    ensure!(!mem.strayed.get());
    Ok(())
}

/// Checks that used descriptors become visible together: the first one is written last.
fn batches(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        let start = if features.packed {
            packed_at(NUM - 2, true)
        } else {
            Position::Split(NUM - 2)
        };
        let mut queue = queue(features, start)?;
        for step in 0..4 {
            let at = (NUM - 2 + step) % NUM;
            if features.packed {
                let flags = if step < 2 { AVAIL } else { USED };
                mem.desc(DESC, at, (0x1000, 1), step, flags);
            } else {
                mem.desc(DESC, at, (0x1000, 1), 0, 0);
                avail(mem, NUM - 2 + step, at);
            }
        }
        for _ in 0..4 {
            let (token, ..) = chain(&mut queue, mem)?;
            ensure!(queue.push(mem, token, 9).is_ok());
        }
        mem.watch(if features.packed {
            DESC + 16 * u64::from(NUM - 2) + 14
        } else {
            DEVICE + 2
        });
        ensure!(queue.flush(mem).is_ok());
        // Two runs of entries, and the field that publishes them.
        ensure!(mem.accesses.get() == 3 && mem.changed.get() == Some(3));
        ensure!(queue.flush(mem).is_ok() && mem.accesses.get() == 3);
        for step in 0..4 {
            let at = u64::from((NUM - 2 + step) % NUM);
            if features.packed {
                ensure!(mem.get_u16(DESC + 16 * at + 12) == step);
                let used = if step < 2 { AVAIL | USED } else { 0 };
                ensure!(mem.get_u16(DESC + 16 * at + 14) == used | WRITE);
            } else {
                ensure!(mem.get(DEVICE + 4 + 8 * at, 4) == at);
            }
        }
        ensure!(features.packed || mem.get_u16(DEVICE + 2) == NUM + 2);
        ensure!(!mem.strayed.get());
    }
    Ok(())
}

/// Checks that there are few accesses, because each costs a translation.
fn economy(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        let mut queue = queue(features, Position::initial(features.packed))?;
        for at in 0..NUM {
            if features.packed {
                mem.desc(DESC, at, (0x1000, 1), at, AVAIL);
            } else {
                mem.desc(DESC, at, (0x1000, 1), 0, 0);
                avail(mem, at, at);
            }
        }
        mem.watch(BASE);
        for _ in 0..NUM {
            let (token, ..) = chain(&mut queue, mem)?;
            ensure!(queue.push(mem, token, 0).is_ok());
        }
        ensure!(queue.needs_signal(mem) == Ok(true));
        // Split: index, entries, descriptors; packed: flags, descriptors. Then the used entries,
        // the field that publishes them, and the driver's event structure.
        let wanted = if features.packed { 2 + 3 } else { 3 + 3 };
        ensure!(mem.accesses.get() == wanted);
        ensure!(mem.barriers.iter().all(|barrier| barrier.get() == 1));
    }
    Ok(())
}

/// Checks valid and invalid indirect tables.
fn indirect(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        let packed = features.packed;
        let put = |index, what, flags, link| {
            desc(mem, features, (TABLE, index), what, flags, link);
        };
        // The table of a packed queue is in order.
        let (second, third) = if packed { (1, 2) } else { (2, 1) };
        put(0, (0x1000, 1), NEXT, 2);
        put(second, (0x2000, 0), NEXT, 1);
        put(third, (0x3000, 3), WRITE, 7);
        first(mem, features, (TABLE, 48), INDIRECT, 0);
        let mut queue = queue(features, Position::initial(packed))?;
        let (_, [one, two, ..], count) = chain(&mut queue, mem)?;
        // The empty segment is skipped.
        ensure!(count == 2 && one.len == 1 && two.len == 3 && two.writable);

        // A table in a table: invalid, but in a packed queue that flag is ignored.
        put(0, (TABLE, 16), INDIRECT, 0);
        if packed {
            first(mem, features, (TABLE, 16), INDIRECT, 0);
            let mut queue = VirtQueue::new(layout(NUM), features, packed_at(0, true));
            let queue = queue.as_mut().map_err(|_| "a queue like before")?;
            let (_, [one, ..], count) = chain(queue, mem)?;
            ensure!(count == 1 && one.addr == TABLE && one.len == 16);
        } else {
            broken(mem, features, Violation::Table)?;
        }
        // A table in the middle of a chain, and invalid sizes.
        put(0, (0x1000, 1), 0, 0);
        for (len, flags) in [
            (48, INDIRECT | NEXT),
            (0, INDIRECT),
            (47, INDIRECT),
            (1 << 20, INDIRECT),
        ] {
            first(mem, features, (TABLE, len), flags, 1);
            broken(mem, features, Violation::Table)?;
        }
        first(mem, features, (0x10, 48), INDIRECT, 0);
        refused(mem, features, RingError::Unmapped)?;
        first(mem, features, (u64::MAX - 7, 48), INDIRECT, 0);
        broken(mem, features, Violation::Address)?;
        first(mem, features, (TABLE, 48), INDIRECT, 0);
        if !packed {
            put(0, (0x1000, 1), NEXT, 3);
            broken(mem, features, Violation::Link)?;
        }
        // Readable behind writable.
        put(0, (0x1000, 1), NEXT | WRITE, 1);
        put(1, (0x1000, 1), 0, 0);
        broken(mem, features, Violation::Direction)?;
        // Without the feature.
        put(0, (0x1000, 1), 0, 0);
        first(mem, features, (TABLE, 16), INDIRECT, 0);
        let without = RingFeatures {
            indirect: false,
            ..features
        };
        broken(mem, without, Violation::Table)?;
    }
    Ok(())
}

/// Checks chains that no correct driver makes.
fn bad_chains(mem: &FakeMemory) -> Outcome {
    // A chain to itself, in a circle, and out of the table.
    mem.clear(NUM, false);
    first(mem, SPLIT, (0x1000, 1), NEXT, 0);
    broken(mem, SPLIT, Violation::Length)?;
    first(mem, SPLIT, (0x1000, 0), NEXT, 1);
    mem.desc(DESC, 1, (0x1000, 0), NEXT, 0);
    broken(mem, SPLIT, Violation::Length)?;
    first(mem, SPLIT, (0x1000, 1), NEXT, NUM);
    broken(mem, SPLIT, Violation::Link)?;
    // A chain that does not end.
    mem.clear(NUM, true);
    for at in 0..NUM {
        mem.desc(DESC, at, (0x1000, 1), 0, NEXT | AVAIL);
    }
    broken(mem, PACKED, Violation::Available)?;
    // A table behind another descriptor of a packed ring.
    mem.clear(NUM, true);
    first(mem, PACKED, (0x1000, 1), NEXT, 0);
    mem.desc(DESC, 1, (TABLE, 16), 0, INDIRECT | AVAIL);
    broken(mem, PACKED, Violation::Table)?;

    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        // Readable behind writable; the end of the address space.
        first(mem, features, (0x1000, 1), WRITE | NEXT, 1);
        desc(mem, features, (DESC, 1), (0x1000, 1), 0, 0);
        broken(mem, features, Violation::Direction)?;
        first(mem, features, (u64::MAX, 2), 0, 0);
        broken(mem, features, Violation::Address)?;
        first(mem, features, (u64::MAX, 1), 0, 0);
        let mut queue = queue(features, Position::initial(features.packed))?;
        ensure!(chain(&mut queue, mem)?.2 == 1);
    }
    Ok(())
}

/// Makes the same descriptor available repeatedly, and checks that no more chains are in flight
/// than there are descriptors, and that each is returned with its own token.
fn twice_in_flight(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        let mut queue = queue(features, Position::initial(features.packed))?;
        let mut tokens = [Token::default(); NUM as usize];
        for (step, token) in (0..NUM).zip(tokens.iter_mut()) {
            mem.desc(DESC, 3, (0x1000, 1), 0, 0);
            if features.packed {
                mem.desc(DESC, step, (0x1000, 1), 3, AVAIL);
            } else {
                avail(mem, step, 3);
            }
            *token = chain(&mut queue, mem)?.0;
        }
        ensure!(queue.in_flight() == NUM.into());
        // Once more, which no correct driver does.
        if features.packed {
            mem.desc(DESC, 0, (0x1000, 1), 3, USED);
        } else {
            avail(mem, NUM, 3);
        }
        let why = RingError::Invalid(Violation::Available);
        ensure!(walk(&mut queue, mem).err() == Some(why));
        for token in tokens {
            ensure!(queue.push(mem, token, 0).is_ok());
        }
        ensure!(queue.flush(mem).is_ok() && queue.in_flight() == 0);
        ensure!(features.packed || mem.get_u16(DEVICE + 2) == NUM);
        ensure!(!mem.strayed.get());
    }
    Ok(())
}

/// Checks indices that no correct driver writes, and invalid layouts.
fn bad_rings(mem: &FakeMemory) -> Outcome {
    mem.clear(NUM, false);
    avail(mem, 0, NUM);
    broken(mem, SPLIT, Violation::Head)?;
    mem.put_u16(DRIVER + 2, NUM + 1);
    broken(mem, SPLIT, Violation::Available)?;
    mem.put_u16(DRIVER + 2, u16::MAX);
    broken(mem, SPLIT, Violation::Available)?;

    for features in [SPLIT, PACKED] {
        let good = layout(NUM);
        let at = |desc, driver, device| Layout {
            desc,
            driver,
            device,
            ..good
        };
        let start = Position::initial(features.packed);
        for num in [0, (1 << 15) + 1, 1 << 16, u32::MAX] {
            let layout = Layout { num, ..good };
            let why = RingError::Invalid(Violation::Size);
            ensure!(VirtQueue::new(layout, features, start).err() == Some(why));
        }
        for layout in [
            at(DESC + 8, DRIVER, DEVICE),
            at(DESC, DRIVER + 1, DEVICE),
            at(DESC, DRIVER, DEVICE + 2),
            at(u64::MAX & !15, DRIVER, DEVICE),
            at(DESC, u64::MAX & !1, DEVICE),
            at(DESC, DRIVER, u64::MAX & !3),
        ] {
            let why = RingError::Invalid(Violation::Area);
            ensure!(VirtQueue::new(layout, features, start).err() == Some(why));
        }
        // A packed queue can have any size.
        let odd = Layout { num: 7, ..good };
        ensure!(VirtQueue::new(odd, features, start).is_ok() == features.packed);
        // An invalid address is accepted until it is used.
        let nowhere = at(0x10, 0x10, 0x10);
        let Ok(mut queue) = VirtQueue::new(nowhere, features, start) else {
            return Err("there should be a queue");
        };
        ensure!(queue.pop(mem).err() == Some(RingError::Unmapped));
        ensure!(queue.needs_signal(mem).is_err());
        ensure!(queue.disable_notify(mem).is_err() && queue.enable_notify(mem).is_err());
        // A position of the other kind.
        let other = Position::initial(!features.packed);
        let why = RingError::Invalid(Violation::Position);
        ensure!(VirtQueue::new(good, features, other).err() == Some(why));
    }
    // Positions that are not in the ring.
    for (avail_idx, used_idx) in [(NUM, 0), (0, NUM), (0x7fff, 0x7fff)] {
        let start = Position::Packed(PackedPosition {
            avail_idx,
            avail_wrap: true,
            used_idx,
            used_wrap: true,
        });
        let why = RingError::Invalid(Violation::Position);
        ensure!(VirtQueue::new(layout(NUM), PACKED, start).err() == Some(why));
    }
    Ok(())
}

/// Unmaps a ring while chains are in flight, and checks that nothing is lost, and that a device
/// which takes over before it is mapped again repeats what the driver did not see.
fn unmapped_meanwhile(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        let mut queue = queue(features, Position::initial(features.packed))?;
        for at in 0..4 {
            if features.packed {
                mem.desc(DESC, at, (0x1000, 1), at, AVAIL);
            } else {
                mem.desc(DESC, at, (0x1000, 1), 0, 0);
                avail(mem, at, at);
            }
        }
        let start = queue.position();
        let (first, ..) = chain(&mut queue, mem)?;
        let behind_first = queue.position();
        let (second, ..) = chain(&mut queue, mem)?;
        // The second chain was not walked.
        queue.put_back(second);
        ensure!(queue.position() == behind_first && queue.in_flight() == 1);
        let (again, ..) = chain(&mut queue, mem)?;
        ensure!(again == second);
        mem.absent(true);
        ensure!(queue.push(mem, first, 1).is_ok() && queue.push(mem, second, 2).is_ok());
        ensure!(queue.flush(mem) == Err(RingError::Unmapped));
        ensure!(queue.needs_signal(mem) == Err(RingError::Unmapped));
        ensure!(queue.enable_notify(mem) == Err(RingError::Unmapped));
        ensure!(queue.restart() == start);
        mem.absent(false);
        ensure!(queue.needs_signal(mem) == Ok(true));
        ensure!(queue.restart() == queue.position());
        let used = |at: u16| {
            if features.packed {
                mem.get(DESC + 16 * u64::from(at) + 8, 4)
            } else {
                mem.get(DEVICE + 4 + 8 * u64::from(at) + 4, 4)
            }
        };
        ensure!(used(0) == 1 && used(1) == 2);
        let (third, ..) = chain(&mut queue, mem)?;
        ensure!(queue.push(mem, third, 3).is_ok());
        ensure!(queue.flush(mem).is_ok() && used(2) == 3);
        ensure!(!mem.strayed.get());
    }
    Ok(())
}

/// Checks which side wants notifications, by flags.
fn notification_flags(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        mem.clear(NUM, features.packed);
        let (wish, kicks) = if features.packed {
            (DRIVER + 2, DEVICE + 2)
        } else {
            (DRIVER, DEVICE)
        };
        let mut q = queue(features, Position::initial(features.packed))?;
        ensure!(q.needs_signal(mem) == Ok(true));
        mem.put_u16(wish, 1);
        ensure!(q.needs_signal(mem) == Ok(false));
        ensure!(q.disable_notify(mem).is_ok() && mem.get_u16(kicks) == 1);
        ensure!(q.enable_notify(mem) == Ok(false) && mem.get_u16(kicks) == 0);
        first(mem, features, (0x1000, 1), 0, 0);
        ensure!(q.enable_notify(mem) == Ok(true));
        // `enable_notify` makes pushed chains visible.
        let (token, ..) = chain(&mut q, mem)?;
        ensure!(q.push(mem, token, 0).is_ok() && q.enable_notify(mem) == Ok(false));
        if features.packed {
            ensure!(mem.get_u16(DESC + 14) == AVAIL | USED);
        } else {
            ensure!(mem.get_u16(DEVICE + 2) == 1);
        }
        // An event index that was not negotiated does not suppress the signal.
        mem.put_u16(wish, 2);
        ensure!(q.needs_signal(mem) == Ok(true));
    }
    Ok(())
}

/// Checks which side wants notifications, by event index, beyond the largest index.
fn notification_indices(mem: &FakeMemory) -> Outcome {
    for features in [SPLIT, PACKED] {
        let features = RingFeatures {
            event_idx: true,
            ..features
        };
        let packed = features.packed;
        mem.clear(NUM, packed);
        let start = if packed { NUM - 2 } else { u16::MAX - 1 };
        let (position, event, avail_event, third) = if packed {
            (packed_at(start, true), DRIVER, DEVICE, 0)
        } else {
            mem.put_u16(DRIVER + 2, start);
            (
                Position::Split(start),
                DRIVER + 4 + 2 * u64::from(NUM),
                DEVICE + 4 + 8 * u64::from(NUM),
                start.wrapping_add(2),
            )
        };
        let mut q = queue(features, position)?;
        ensure!(packed || (q.disable_notify(mem).is_ok() && mem.get_u16(DEVICE) == 0));
        ensure!(q.enable_notify(mem) == Ok(false));
        let wrap = u16::from(packed) << 15;
        ensure!(mem.get_u16(avail_event) == start | wrap);
        ensure!(!packed || mem.get_u16(DEVICE + 2) == 2);
        ensure!(q.disable_notify(mem).is_ok());
        ensure!(!packed || mem.get_u16(DEVICE + 2) == 2);
        // The driver waits for the third entry, behind the wrap-around.
        mem.put_u16(event, third);
        mem.put_u16(DRIVER + 2, if packed { 2 } else { start });
        // A device that was just started rather signals too often.
        ensure!(q.needs_signal(mem) == Ok(true));
        for (step, wanted) in [(0u16, false), (1, false), (2, true), (3, false)] {
            let index = start.wrapping_add(step);
            if packed {
                let flags = if step < 2 { AVAIL } else { USED };
                mem.desc(DESC, index % NUM, (0x1000, 1), 0, flags);
            } else {
                mem.desc(DESC, 0, (0x1000, 1), 0, 0);
                avail(mem, index, 0);
            }
            let (token, ..) = chain(&mut q, mem)?;
            ensure!(q.push(mem, token, 0).is_ok());
            ensure!(q.needs_signal(mem) == Ok(wanted));
        }
        // Nothing was pushed, so there is no signal.
        ensure!(q.needs_signal(mem) == Ok(false));
        // An event index that is not in the ring.
        mem.put_u16(event, 0x7fff);
        ensure!(!packed || q.needs_signal(mem) == Ok(true));
    }
    Ok(())
}

/// Runs all cases that do not depend on random numbers.
pub(crate) fn all(mem: &FakeMemory) -> Outcome {
    goes_round_split(mem)?;
    goes_round_packed(mem)?;
    batches(mem)?;
    economy(mem)?;
    indirect(mem)?;
    bad_chains(mem)?;
    twice_in_flight(mem)?;
    bad_rings(mem)?;
    unmapped_meanwhile(mem)?;
    notification_flags(mem)?;
    notification_indices(mem)
}

/// Driver that does whatever it likes.
struct Hostile<'a> {
    mem: &'a FakeMemory,
    random: &'a mut Random,
    features: RingFeatures,
    num: u16,
    /// It does something surely wrong about once in this many steps.
    wild: u64,
}

impl Hostile<'_> {
    /// Writes a descriptor, which may be valid or not.
    fn desc(&mut self, table: u64, entries: u64, extra: u16) {
        let (mem, random, features) = (self.mem, &mut *self.random, self.features);
        let index = random.below(entries) as u16;
        if random.once_in(self.wild) {
            let what = (addr(random), random.next() as u32);
            let link = random.below(entries + 1) as u16;
            let flags = random.next() as u16;
            return desc(mem, features, (table, index), what, flags, link);
        }
        // Always forward and into the same table, so that chains end.
        let next = index.saturating_add(1 + random.below(3) as u16);
        let last = u64::from(next) >= entries;
        let end = WRITE * random.below(2) as u16;
        let mut flags = if last { end } else { NEXT };
        if features.packed && random.once_in(2) {
            flags = end;
        }
        let len = match random.below(4) {
            0 if table == DESC => {
                flags = INDIRECT;
                16 * (1 + random.below(64) as u32)
            }
            1 => 0,
            _ => random.below(1 << 16) as u32,
        };
        let addr = if flags == INDIRECT {
            TABLE
        } else {
            addr(random) >> 1
        };
        desc(
            mem,
            features,
            (table, index),
            (addr, len),
            flags | extra,
            next,
        );
    }

    /// Makes descriptors available.
    fn avail(&mut self, position: Position) {
        let num = u64::from(self.num);
        match position {
            Position::Split(index) => {
                let head = self.random.below(num) as u16;
                let at = DRIVER + 4 + 2 * u64::from(index % self.num);
                self.mem.put_u16(at, head);
                let ahead = 1 + self.random.below(num.min(3)) as u16;
                self.mem.put_u16(DRIVER + 2, index.wrapping_add(ahead));
            }
            Position::Packed(at) => {
                // Any number of them, from the position of the device on.
                let count = 1 + self.random.below(num) as u16;
                for index in (at.avail_idx..self.num).take(count.into()) {
                    let addr = DESC + 16 * u64::from(index) + 14;
                    let flags = self.mem.get_u16(addr) & !(AVAIL | USED);
                    let wanted = if at.avail_wrap { AVAIL } else { USED };
                    self.mem.put_u16(addr, flags | wanted);
                }
            }
        }
    }

    /// Makes one random step.
    fn step(&mut self, position: Position) {
        match self.random.below(8) {
            0 if self.random.once_in(self.wild) => {
                let (addr, value) = (addr(self.random), self.random.next());
                self.mem.put(addr, &value.to_le_bytes());
            }
            1 if self.random.once_in(self.wild * 4) => {
                for at in 0..layout(self.num).num * 2 {
                    let value = self.random.next();
                    self.mem.put(DESC + 8 * u64::from(at), &value.to_le_bytes());
                }
            }
            0..=2 => {
                let flags = self.random.next() as u16 & (AVAIL | USED);
                let extra = if self.features.packed { flags } else { 0 };
                self.desc(DESC, self.num.into(), extra);
            }
            3 => self.desc(TABLE, 32, 0),
            4 => {
                // Request signals, or suppress them.
                let (at, value) = (self.random.below(2) * 2, self.random.next() as u16);
                if self.features.packed || at == 0 {
                    self.mem.put_u16(DRIVER + at, value);
                }
            }
            _ => self.avail(position),
        }
    }
}

/// Walks a chain of a hostile driver as far as possible, and checks its segments.
fn walk_hostile(mem: &FakeMemory, mut chain: Chain, num: u16) -> Outcome<RingResult> {
    let (mut segments, mut writable) = (0, false);
    let end = loop {
        match chain.next(mem) {
            Err(error) => break Err(error),
            Ok(None) => break Ok(()),
            Ok(Some(segment)) => {
                segments += 1;
                ensure!(segment.len != 0);
                ensure!(segment.addr.checked_add(segment.len as u64 - 1).is_some());
                ensure!(segment.writable || !writable);
                writable = segment.writable;
            }
        }
    };
    ensure!(segments <= 1024 + u32::from(num));
    ensure!(end.is_err() || matches!(chain.next(mem), Ok(None)));
    Ok(end)
}

/// Returns the descriptor or entry that the device reads next.
fn next_of(position: Position) -> (u16, bool) {
    match position {
        Position::Split(index) => (index, false),
        Position::Packed(at) => (at.avail_idx, at.avail_wrap),
    }
}

/// Runs drivers that write anything at any time, also between two accesses of the device, and
/// checks that the device's side stays within its bounds. Each of the `rounds` queues runs for 200
/// steps; one that breaks is started again at its position. Returns the number of chains that were
/// walked.
pub(crate) fn hostile(mem: &FakeMemory, seed: u64, rounds: u32) -> Outcome<u64> {
    let random = &mut Random::new(seed);
    let mut passed = 0;
    for _ in 0..rounds {
        let packed = random.once_in(2);
        let features = RingFeatures {
            little_endian: random.once_in(2),
            indirect: !random.once_in(4),
            event_idx: random.once_in(2),
            packed,
        };
        let (num, start) = if packed {
            let num = 1 + random.below(16) as u16;
            let start = packed_at(random.below(num.into()) as u16, random.once_in(2));
            (num, start)
        } else {
            (1 << random.below(5), Position::Split(random.next() as u16))
        };
        mem.clear(num, packed);
        if random.once_in(3) {
            mem.in_turmoil(random.next());
        }
        let start_queue = |start| {
            VirtQueue::new(layout(num), features, start).map_err(|_| "no queue where it was")
        };
        let mut queue = start_queue(start)?;
        let mut tokens = [Token::default(); 16];
        let mut held = 0;
        let mut driver = Hostile {
            mem,
            wild: 1 + random.below(400),
            random: &mut *random,
            features,
            num,
        };
        for _ in 0..200 {
            driver.step(queue.position());
            mem.accesses.set(0);
            let before = next_of(queue.position());
            let mut step = || -> Outcome<RingResult> {
                let chain = match queue.pop(mem) {
                    Err(error) => {
                        ensure!(next_of(queue.position()) == before);
                        return Ok(Err(error));
                    }
                    Ok(None) => {
                        ensure!(next_of(queue.position()) == before);
                        None
                    }
                    Ok(Some(chain)) => Some(chain),
                };
                if let Some(chain) = chain {
                    ensure!(packed || next_of(queue.position()) != before);
                    let Some(slot) = tokens.get_mut(held) else {
                        return Err("more chains in flight than descriptors");
                    };
                    *slot = chain.token();
                    held += 1;
                    if let Err(error) = walk_hostile(mem, chain, num)? {
                        return Ok(Err(error));
                    }
                    passed += 1;
                }
                ensure!(queue.in_flight() as usize == held && held <= num.into());
                while held > 0 && driver.random.once_in(2) {
                    held -= 1;
                    // The ring itself is mapped, whatever the driver does.
                    let Some(token) = tokens.get(held) else {
                        return Err("no token");
                    };
                    ensure!(queue.push(mem, *token, held as u32).is_ok());
                }
                if driver.random.once_in(2) {
                    ensure!(queue.needs_signal(mem).is_ok());
                }
                if driver.random.once_in(4) {
                    ensure!(queue.disable_notify(mem).is_ok());
                }
                if driver.random.once_in(4) {
                    return Ok(queue.enable_notify(mem).map(|_| ()));
                }
                Ok(Ok(()))
            };
            let broke = step()?.is_err();
            ensure!(mem.accesses.get() <= 1024 + u32::from(num) + 16);
            if broke {
                queue = start_queue(queue.position())?;
                held = 0;
                if !packed && driver.random.once_in(2) {
                    // Otherwise the queue would never continue.
                    let Position::Split(index) = queue.position() else {
                        return Err("another kind of position");
                    };
                    mem.put_u16(DRIVER + 2, index);
                }
            }
        }
        ensure!(!mem.strayed.get());
    }
    Ok(passed)
}
