package wire

// Notification is the payload of what a subscriber (NOTIFY) gets for each
// write of the id: who wrote, and with what attribute.
type Notification struct {
	Addr Addr // of the writer
	IO   IOAttr
}

// NotificationSize is the length of a notification in bytes.
const NotificationSize = AddrSize + IOAttrSize

// Append writes the 240 bytes of n to dst.
func (n *Notification) Append(dst []byte) []byte {
	return n.IO.Append(append(dst, n.Addr[:]...))
}

// Decode reads n from the whole of src.
func (n *Notification) Decode(src []byte) error {
	if len(src) != NotificationSize {
		return malformed("notification has %d bytes, %d expected", len(src), NotificationSize)
	}
	copy(n.Addr[:], src)
	return n.IO.Decode(src[AddrSize:])
}
