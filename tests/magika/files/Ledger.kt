package inn.ledger

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

data class Entry(val name: String, val cents: Long)

sealed class Outcome {
    object Accepted : Outcome()
    data class Refused(val reason: String) : Outcome()
}

class Ledger(private val entries: MutableList<Entry> = mutableListOf()) {
    fun add(entry: Entry): Outcome = when {
        entry.cents == 0L -> Outcome.Refused("nothing to book")
        else -> { entries += entry; Outcome.Accepted }
    }

    fun stream(): Flow<Entry> = flow { entries.forEach { emit(it) } }
}
