// Package record cuts blocks into records small enough for one DNS answer.
//
// (placeholder head comment: to be written with the code)
package record
