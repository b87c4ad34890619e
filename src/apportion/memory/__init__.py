"""Memory as an account and as bytes: the ledger and its leases, arenas of slots, the reader that fills them
from files, and what both together are to the layers above: a tier.
"""

from apportion.memory.account import Account, Demand, TierAccount
from apportion.memory.arena import Arena, Slot
from apportion.memory.faults import ReadFault
from apportion.memory.ledger import Lease, Ledger
from apportion.memory.reader import (
    CHUNK_NBYTES,
    OpenedFile,
    Part,
    Priority,
    Reader,
    ReadStats,
    Ticket,
    parts_in_a_row,
    room_for,
    room_in_a_row,
)
from apportion.memory.shelf import ExpertPlaces, RamShelf, Shelf
from apportion.memory.tier import MakeSlots, RamSlots, Slots

__all__ = [
    "CHUNK_NBYTES",
    "Account",
    "Arena",
    "Demand",
    "ExpertPlaces",
    "Lease",
    "Ledger",
    "MakeSlots",
    "OpenedFile",
    "Part",
    "Priority",
    "RamShelf",
    "RamSlots",
    "ReadFault",
    "ReadStats",
    "Reader",
    "Shelf",
    "Slot",
    "Slots",
    "Ticket",
    "TierAccount",
    "parts_in_a_row",
    "room_for",
    "room_in_a_row",
]
