// Owns the colours that the styles take: tag -> hex values, of which one is drawn.

export const HAIR = {
  black_hair: ["0e0e0e", "1f1a17"],
  brown_hair: ["6a4e35", "8d5524", "4a312c"],
  blonde_hair: ["e5d7a3", "d8b24a", "f2d16b"],
  red_hair: ["b8250f", "c93305"],
  orange_hair: ["e8792b"],
  pink_hair: ["f59797", "e86fb0"],
  purple_hair: ["7f4bb3", "a55eea"],
  blue_hair: ["2f6fd0", "4aa3df"],
  green_hair: ["3a9d4f", "7cc46a"],
  aqua_hair: ["2ec4b6"],
  grey_hair: ["9a9a9a", "b7b7b7"],
  white_hair: ["f4f4f4"],
};
export const SKIN = {
  light_skin: ["f2d3b1", "ffdbb4", "fbe0cf"],
  tan_skin: ["ecad80", "d9a066"],
  brown_skin: ["b57b50", "9e5622"],
  dark_skin: ["763900", "5c3217"],
};
export const SHIRTS = {
  red_shirt: ["d11f2f"],
  blue_shirt: ["2663a3", "5bc0de"],
  green_shirt: ["44c585", "2f7d32"],
  yellow_shirt: ["ffd700", "f4c542"],
  purple_shirt: ["7d4fa8"],
  pink_shirt: ["f4a6c0"],
  white_shirt: ["f6f6f6"],
  black_shirt: ["262626"],
  orange_shirt: ["e87722"],
};
export const EYES = {
  brown_eyes: ["5b3a1e"],
  blue_eyes: ["3c7bd6"],
  green_eyes: ["3f8f4f"],
  grey_eyes: ["76778b"],
  purple_eyes: ["7a4fb5"],
  red_eyes: ["c0392b"],
};
export const HEADWEAR = {
  red_headwear: ["cc2f2f"],
  blue_headwear: ["2663a3"],
  green_headwear: ["2f9e5b"],
  black_headwear: ["2b2b2b"],
  yellow_headwear: ["f0c419"],
  purple_headwear: ["614f8a"],
};
export const EYEWEAR = {
  black_eyewear: ["191919"],
  brown_eyewear: ["5f3b20"],
  red_eyewear: ["a04b5d"],
  blue_eyewear: ["4b70c0"],
  green_eyewear: ["3c8c5d"],
};
