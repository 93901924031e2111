/** Stands for the image library that transformers.js loads at once: no image is read here, and its binaries are LGPL. */
export default function sharp() {
  throw new Error("images are not part of this bench");
}
