// SPDX-License-Identifier: GPL-2.0

//! Conversion between positions of rings and the states that the vDPA bus saves and restores.

use crate::ring::{PackedPosition, Position};
use vdpa_parent::parent_types::{PackedState, VqState};

/// Returns the state that `get_vq_state` reports for a position.
pub fn saved(position: Position) -> VqState {
    match position {
        Position::Split(index) => VqState::split(index),
        Position::Packed(position) => VqState::packed(PackedState {
            last_avail_counter: position.avail_wrap,
            last_avail_idx: position.avail_idx,
            last_used_counter: position.used_wrap,
            last_used_idx: position.used_idx,
        }),
    }
}

/// Returns the position for the argument of `set_vq_state`. `packed` says that packed rings were
/// negotiated.
pub fn restored(state: &VqState, packed: bool) -> Position {
    if !packed {
        return Position::Split(state.as_split());
    }
    let state = state.as_packed();
    Position::Packed(PackedPosition {
        avail_idx: state.last_avail_idx,
        avail_wrap: state.last_avail_counter,
        used_idx: state.last_used_idx,
        used_wrap: state.last_used_counter,
    })
}
