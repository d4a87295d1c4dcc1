// Package codeunits makes texts of UTF-16 code units, for tests with half of a surrogate pair.
package codeunits

import "strings"

// Text encodes code units one by one. Half of a surrogate pair stays alone: UTF-8 would not allow it, but
// a program may have made such a text.
func Text(units []rune) string {
	const firstHalf, secondHalf, last, shift = 0xd800, 0xdc00, 0xdfff, 10
	var encoded strings.Builder
	for index := 0; index < len(units); index++ {
		unit := units[index]
		switch half := unit >= firstHalf && unit <= last; {
		case half && unit < secondHalf && index+1 < len(units) && units[index+1] >= secondHalf:
			index++
			encoded.WriteRune(0x10000 + (unit-firstHalf)<<shift + units[index] - secondHalf)
		case half:
			encoded.Write([]byte{0xe0 | byte(unit>>12), 0x80 | byte(unit>>6&0x3f), 0x80 | byte(unit&0x3f)})
		default:
			encoded.WriteRune(unit)
		}
	}
	return encoded.String()
}
