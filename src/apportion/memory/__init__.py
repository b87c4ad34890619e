"""Memory as an account and as bytes: the ledger and its leases, arenas of slots, and the reader that fills
them from files.
"""

from apportion.memory.account import Account, Demand, TierAccount
from apportion.memory.arena import Arena, Slot
from apportion.memory.faults import ReadFault
from apportion.memory.ledger import Lease, Ledger
from apportion.memory.reader import (
    OpenedFile,
    Part,
    Priority,
    Reader,
    ReadStats,
    Ticket,
    parts_in_a_row,
    room_for,
)

__all__ = [
    "Account",
    "Arena",
    "Demand",
    "Lease",
    "Ledger",
    "OpenedFile",
    "Part",
    "Priority",
    "ReadFault",
    "ReadStats",
    "Reader",
    "Slot",
    "Ticket",
    "TierAccount",
    "parts_in_a_row",
    "room_for",
]
