// Package engine stores the records of one backend of the embedded node on one
// machine, durably. It knows nothing of the protocol: a record is a value of
// any length with a timestamp and some flags, and it changes by whole Changes.
//
// The records are in segment files, to which frames are only ever appended; an
// index in pebble says where. A directory holds
//
//	00000001-c0ffee00.seg …   frames, one after the other
//	index/                    pebble: key → record, segment → living bytes,
//	                          log position
//
// A frame is a header of 160 bytes, a table and data (integers little-endian):
//
//	  0  4  "ELS", version 1
//	  4  4  CRC-32C of bytes 8 to 160, continued from the segment's salt
//	  8  8  sequence number of the frame
//	 16 64  key
//	 80  1  kind: 1 put, 2 delete, 3 copy, 4 void
//	 81  3  how many frames before this one, at most, were not on stable storage
//	        when it was written
//	 84  4  CRC-32C of the table
//	 88  8  length of the data
//	 96  8  offset of the data in the record
//	104  8  size of the record afterwards
//	112  8  reservation
//	120 16  timestamp: seconds, nanoseconds
//	136  8  user flags
//	144  8  flags
//	152  8  keep (put): what lies beyond this is gone first;
//	        version (delete, copy): sequence number of the change
//	160  -  table: a CRC-32C for each 64 KiB of data
//	        data
//
// A put truncates the record to keep bytes, lays the data over it, and gives
// it its new size; what nothing was written to reads as zeros. Appending to a
// record thus never rewrites it: it is a list of extents in several frames. A
// copy is what compaction writes: the same bytes again, in another place. A
// void fills the place of a frame that could not be written, or that recovery
// has dropped.
//
// The salt is a random number in the name of each segment. Without it, whoever
// stores a record could put frames into it, which recovery would find when it
// looks for the next frame behind a damage.
//
// The segments are the truth. The index is written without a log of its own,
// and only when the frames it speaks of are on stable storage; it remembers
// the log position up to which it is complete, and Open replays the rest. An
// index that is lost or damaged is made anew from all segments.
//
// A change is acknowledged when all frames up to its own are on stable
// storage. What nobody acknowledged may be there after a crash, or not, but
// never in part: where a frame is missing, recovery asks whether any later one
// says that it was durable. If none does, a crash cut the log off there, and
// what stands behind was never acknowledged and is dropped. Otherwise the disk
// has lost it: the rest is kept, and the bytes are known to be lost.
package engine
